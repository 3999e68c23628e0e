r"""Measures speed and memory, beside Keras's and PyTorch's.

python -m benchmarks --config=configs/poster_cnn.py \
  --config.dataset.data_dir=DATA_DIR

Every measurement runs in a process of its own, and those of the contenders take
turns. Run it on a machine that does nothing else.
"""

import dataclasses
import datetime
import json
import os
import pathlib
import tempfile
from typing import Any

from absl import flags
from ml_collections import config_flags

from benchmarks import child
from benchmarks import contenders
from benchmarks import processes
from benchmarks import report
from genre_flax import config as config_lib
from genre_flax.runtime import command_line
from genre_flax.runtime import errors
from genre_flax.runtime import files
from genre_flax.runtime import machine as machine_lib

_CONFIG = config_flags.DEFINE_config_file(
  'config', None, 'File of the training configuration.', lock_config=True
)
_PEERS = flags.DEFINE_list(
  'peers',
  None,
  'Libraries to compare with: keras, torch. Default: those that are installed'
  ' and have the network; "" for none.',
)
_MEASUREMENTS = flags.DEFINE_multi_enum(
  'measure',
  ['step', 'input', 'epoch'],
  ['step', 'input', 'epoch', 'quickstart', 'growth'],
  'What to measure; give the flag once for each. step: training, inference and'
  ' compilation. input: the input pipeline alone. epoch: one epoch from files'
  ' on disk, and its memory. quickstart: the time to its first loss. growth:'
  ' the input pipeline on data sets of the sizes of --growth.',
)
_REPETITIONS = flags.DEFINE_integer(
  'repetitions', 3, 'Times that everything is measured.', lower_bound=1
)
_NUM_STEPS = flags.DEFINE_integer(
  'num_steps', 20, 'Steps to time in a process, after warm-up.', lower_bound=1
)
_NUM_POSTERS = flags.DEFINE_integer(
  'num_posters',
  None,
  'Posters to read, instead of all: some are left out, or repeated.',
  lower_bound=1,
)
_GROWTH = flags.DEFINE_list(
  'growth', ['1000', '20000'], 'Sizes of the data sets of --measure=growth.'
)
_COMPILE_TORCH = flags.DEFINE_bool(
  'compile_torch',
  False,
  'Try torch.compile too. It needs a C++ compiler, and minutes.',
)
_OUTPUT = flags.DEFINE_string('output', None, 'JSON file to write.')

_PACKAGES = ('jax', 'flax', 'keras', 'tensorflow', 'torch', 'pillow', 'numpy')
# Above this share of the cores, others take a part of the time.
_BUSY_LOAD = 0.2


def main(argv: list[str]) -> int:
  config = command_line.read_config(_CONFIG, argv)
  output = pathlib.Path(os.path.expanduser(_OUTPUT.value or 'benchmark.json'))
  if not output.parent.is_dir():
    raise errors.InputError(f'--output={output}: there is no such folder.')
  changed = contenders.set_terms(config)
  peers, left_out = contenders.choose(
    None if _PEERS.value is None else [p for p in _PEERS.value if p],
    network=config.model.name,
  )
  setting = {
    'date': datetime.date.today().isoformat(),
    'machine': _describe_machine(),
    'versions': machine_lib.versions(_PACKAGES),
    'config': config_lib.to_dict(config),
    'changed_for_comparison': changed,
    'left_out': left_out,
    'repetitions': _REPETITIONS.value,
    'num_steps': _NUM_STEPS.value,
  }
  with tempfile.TemporaryDirectory(prefix='genre_flax_') as folder:
    spec = _prepare(config, folder, num_posters=_NUM_POSTERS.value)
    jobs = _make_jobs(spec, [contenders.OWN, *peers], config, folder)
    results, failed = processes.run_in_turn(
      jobs, repetitions=_REPETITIONS.value
    )
  setting.update(num_examples=spec.num_examples, failed=failed)
  rows = report.summarize(results)
  print(f'{_describe(setting, spec)}\n\n{report.format_table(rows)}')
  if _OUTPUT.value:
    text = json.dumps(
      {**setting, 'summary': rows, 'results': results}, indent=2
    )
    files.write_atomic(output, f'{text}\n')
  return 0


def _prepare(config, folder, *, num_posters):
  """What all specs have in common, with the data set of a size."""
  spec = child.Spec(
    contender='data',
    measurement='prepare',
    config=config_lib.to_dict(config),
    num_steps=_NUM_STEPS.value,
    num_cores=machine_lib.num_cores(),
    num_images=num_posters or 0,
    files=folder,
  )
  prepared = processes.run('benchmarks.data', spec)
  for name in ('platform', 'peak_memory_gb'):
    del prepared[name]
  return dataclasses.replace(spec, **prepared)


def _make_jobs(spec, names, config, folder):
  """Everything to measure once, the contenders one after the other."""
  jobs = []
  for measurement in _MEASUREMENTS.value:
    if measurement == 'growth':
      jobs += _make_growth_jobs(config, folder)
      continue
    for name in names:
      if measurement == 'quickstart' and name != contenders.OWN:
        continue
      for variant in contenders.variants(
        name,
        measurement,
        dtype=config.model.dtype,
        compile_torch=_COMPILE_TORCH.value,
      ):
        jobs.append(
          dataclasses.replace(
            spec, contender=name, measurement=measurement, variant=variant
          )
        )
  return jobs


def _make_growth_jobs(config, folder):
  """The same number of images from data sets of all sizes."""
  try:
    sizes = sorted(int(size) for size in _GROWTH.value)
  except ValueError:
    raise errors.InputError(
      f'--growth={",".join(_GROWTH.value)} are no whole numbers; expected'
      ' numbers of posters, as --growth=1000,20000.'
    ) from None
  specs = [_prepare(config, folder, num_posters=size) for size in sizes]
  return [
    dataclasses.replace(
      spec,
      contender=contenders.OWN,
      measurement='growth',
      variant=f'{size:,} posters',
      num_images=specs[-1].num_images,
    )
    for size, spec in zip(sizes, specs, strict=True)
  ]


def _describe_machine() -> dict[str, Any]:
  return {
    'processor': machine_lib.processor(),
    'num_cores': machine_lib.num_cores(),
    'load_before': os.getloadavg()[0],
  }


def _describe(setting: dict[str, Any], spec: child.Spec) -> str:
  """What was measured on what, in words."""
  height, width = spec.image_shape
  machine = setting['machine']
  posters = ', '.join(
    f'{n:,} {split}' for split, n in spec.num_examples.items()
  )
  versions = ', '.join(f'{k} {v}' for k, v in setting['versions'].items())
  lines = [
    f'{spec.config["model"]["name"]}, {spec.num_parameters:,} parameters,'
    f' {height} x {width} pixels, batch {spec.batch_size}; posters: {posters}',
    f'{machine["num_cores"]} cores of {machine["processor"]},'
    f' {setting["date"]}; {versions}',
    f'Repetitions: {setting["repetitions"]}, in turn. Ratio: how many times'
    ' better genre_flax is; of growing data, how many times the smallest.',
  ]
  if setting['changed_for_comparison']:
    keys = ', '.join(setting['changed_for_comparison'])
    lines.append(f'Set as the peers do it: {keys}')
  for name, reason in setting['left_out'].items():
    lines.append(f'Left out: {name}, {reason}')
  lines += [f'Failed: {reason}' for reason in setting['failed'].values()]
  if machine['load_before'] > _BUSY_LOAD * machine['num_cores']:
    lines.append(
      f'The machine was busy before the start (load'
      f' {machine["load_before"]:.1f}): these numbers are worth little.'
    )
  return '\n'.join(lines)


if __name__ == '__main__':
  command_line.run(main)
