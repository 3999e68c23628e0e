r"""Measures speed and memory of genre_flax, Keras and PyTorch.

python -m benchmarks --config=configs/poster_cnn.py \
  --config.dataset.data_dir=DATA_DIR

Each measurement runs in its own process; the libraries alternate. The machine
should be idle otherwise.
"""

import dataclasses
import datetime
import json
import os
import pathlib
import tempfile
from typing import Any

from absl import flags

from benchmarks import libraries as libraries_lib
from benchmarks import measurement
from benchmarks import runner
from benchmarks import summary
from genre_flax import config as config_lib
from genre_flax import config_files
from genre_flax.runtime import command_line
from genre_flax.runtime import errors
from genre_flax.runtime import files
from genre_flax.runtime import machine as machine_lib

_CONFIG = config_files.define_flag()
_LIBRARIES = flags.DEFINE_list(
  'libraries',
  None,
  'Libraries to compare with: keras, torch; "" for none. Default: all that are'
  ' installed and have the network.',
)
_MEASUREMENTS = flags.DEFINE_multi_enum(
  'measure',
  ['step', 'input', 'epoch'],
  ['step', 'input', 'epoch'],
  'Measurement; repeat the flag for several. step: training, inference and'
  ' compilation. input: the input pipeline. epoch: one epoch from files on'
  ' disk.',
)
_REPETITIONS = flags.DEFINE_integer(
  'repetitions', 3, 'Number of runs of each measurement.', lower_bound=1
)
_NUM_STEPS = flags.DEFINE_integer(
  'num_steps', 20, 'Timed steps per run, after a warm-up.', lower_bound=1
)
_COMPILE_TORCH = flags.DEFINE_bool(
  'compile_torch',
  False,
  'Whether to measure torch.compile too; it needs a C++ compiler and minutes.',
)
_OUTPUT = flags.DEFINE_string('output', None, 'JSON file to write.')

_PACKAGES = ('jax', 'flax', 'keras', 'tensorflow', 'torch', 'pillow', 'numpy')
# Load per core above which other programs distort the measurements.
_BUSY_LOAD = 0.2


def main(argv: list[str]) -> int:
  config = command_line.read_config(_CONFIG, argv)
  output = pathlib.Path(os.path.expanduser(_OUTPUT.value or 'benchmark.json'))
  if not output.parent.is_dir():
    raise errors.InputError(f'--output={output}: the folder does not exist.')
  changed = libraries_lib.use_common_values(config)
  libraries, skipped = libraries_lib.choose(
    None if _LIBRARIES.value is None else [x for x in _LIBRARIES.value if x],
    network=config.model.name,
  )
  setting = {
    'date': datetime.date.today().isoformat(),
    'machine': {
      'processor': machine_lib.processor(),
      'num_cores': machine_lib.num_cores(),
      'load_before': os.getloadavg()[0],
    },
    'versions': machine_lib.versions(_PACKAGES),
    'config': config_lib.to_dict(config),
    'changed_for_comparison': changed,
    'skipped': skipped,
    'num_repetitions': _REPETITIONS.value,
    'num_steps': _NUM_STEPS.value,
  }
  with tempfile.TemporaryDirectory(prefix='genre_flax_') as folder:
    spec = _prepare(config, folder)
    specs = _make_specs(spec, [libraries_lib.OWN, *libraries], config)
    results, failures = runner.run_all(
      specs, num_repetitions=_REPETITIONS.value
    )
  setting |= {'num_examples': spec.num_examples, 'failures': failures}
  rows = summary.summarize(results)
  print(f'{_describe(setting, spec)}\n\n{summary.format_table(rows)}')
  if _OUTPUT.value:
    text = json.dumps(
      {**setting, 'summary': rows, 'results': results}, indent=2
    )
    files.write_atomic(output, f'{text}\n')
  return 0


def _prepare(config, folder):
  """The common fields of all specs; writes the dataset to the folder."""
  spec = measurement.Spec(
    library='genre_flax',
    measurement='prepare',
    config=config_lib.to_dict(config),
    num_steps=_NUM_STEPS.value,
    num_cores=machine_lib.num_cores(),
    files=folder,
  )
  prepared = runner.run('benchmarks.data', spec)
  fields = {field.name for field in dataclasses.fields(spec)}
  return dataclasses.replace(
    spec, **{name: prepared[name] for name in fields & prepared.keys()}
  )


def _make_specs(spec, libraries, config):
  """Each measurement once; the libraries alternate."""
  return [
    dataclasses.replace(
      spec, library=library, measurement=name, variant=variant
    )
    for name in _MEASUREMENTS.value
    for library in libraries
    for variant in libraries_lib.variants(
      library,
      name,
      dtype=config.model.dtype,
      compile_torch=_COMPILE_TORCH.value,
    )
  ]


def _describe(setting: dict[str, Any], spec: measurement.Spec) -> str:
  """The network, the machine and the configuration, in words."""
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
    f'Medians of {setting["num_repetitions"]} repetition(s). Ratio: the factor'
    ' by which genre_flax is better.',
  ]
  if setting['changed_for_comparison']:
    keys = ', '.join(setting['changed_for_comparison'])
    lines.append(f'Changed for the comparison: {keys}')
  for name, reason in setting['skipped'].items():
    lines.append(f'Skipped: {name}: {reason}')
  lines += [f'Failed: {reason}' for reason in setting['failures'].values()]
  if machine['load_before'] > _BUSY_LOAD * machine['num_cores']:
    lines.append(
      f'The machine was busy at the start (load {machine["load_before"]:.1f});'
      ' the results are unreliable.'
    )
  return '\n'.join(lines)


if __name__ == '__main__':
  command_line.run(main)
