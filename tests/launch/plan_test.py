"""Plans: arithmetic by hand, and the program with a fake compiler."""

import json
import os
import subprocess
import sys

from jax.experimental.pallas import tpu as pltpu
import pytest

from genre_flax.runtime import accelerators
from launch import roofline
from tests.support import paths

GIB = 2**30
FACTS = {
  'topology': 'v5e:2x2',
  'device_kind': 'TPU v5 lite',
  'num_devices': 4,
  'num_chips': 4,
  'num_hosts': 1,
  'model': 'poster_cnn',
  'dtype': 'bfloat16',
  'image_height': 250,
  'image_width': 240,
  'num_genres': 25,
  'micro_batch_size': None,
  'global_batch_size': 40,
  'per_device_batch_size': 10,
  'hbm_bytes_available': 16 * GIB,
  'hbm_bytes_needed': 6 * GIB,
  'fits': True,
  'flops': 1.97e12,
  'bytes_accessed': 16.38e9,
  'compile_seconds': 12.3,
}


def test_operations_may_bind():
  # 0.02 s of operations, 0.01 s of traffic; 40 images in the longer.
  facts = {**FACTS, 'flops': 3.94e12, 'bytes_accessed': 8.19e9}
  limit = roofline.make_plan(facts)['bound']
  assert limit['binds'] == 'compute'
  assert limit['step_seconds'] == pytest.approx(0.02)
  assert limit['images_per_second'] == pytest.approx(2000.0)


def test_two_devices_share_a_chip_of_the_first_generations():
  facts = {**FACTS, 'device_kind': 'TPU v3', 'num_chips': 4}
  peak = roofline.make_plan({**facts, 'num_devices': 8})['peak']
  assert peak['flops_per_second'] == 61.5e12
  assert peak['bytes_per_second'] == 450e9
  assert roofline.make_plan(facts)['peak']['flops_per_second'] == 123e12


@pytest.mark.parametrize(
  'chip', [c for c in accelerators.TPUS.values() if c.flops_per_second]
)
def test_jaxs_own_table_has_nearly_the_same_peaks(chip):
  # It rounds, and takes other clock rates: v3 differs by 14 %.
  version = pltpu.ChipVersion[f'TPU_{chip.name.upper()}']
  num_cores = version.num_physical_tensor_cores_per_chip
  core = pltpu.get_tpu_info_for_chip(version, 1)
  assert chip.flops_per_second == pytest.approx(
    num_cores * core.bf16_ops_per_second, rel=0.15
  )
  assert chip.bytes_per_second == pytest.approx(
    num_cores * core.mem_bw_bytes_per_second, rel=0.15
  )


def test_a_plan_adds_peaks_and_bound():
  plan = roofline.make_plan(FACTS)
  # 1.97e12 / 197e12 and 16.38e9 / 819e9; 40 images in the longer.
  assert plan['bound'] == {
    'compute_seconds': pytest.approx(0.01),
    'memory_seconds': pytest.approx(0.02),
    'step_seconds': pytest.approx(0.02),
    'binds': 'memory',
    'images_per_second': pytest.approx(2000.0),
  }
  assert plan['peak']['source'].endswith('/tpu/docs/v5e')
  assert {key: plan[key] for key in FACTS} == FACTS


def test_a_plan_shows_its_arithmetic():
  lines = roofline.describe(roofline.make_plan(FACTS)).splitlines()
  assert lines == [
    'v5e:2x2 (v5litepod-4): 4 chips (TPU v5 lite), 4 devices, 1 host(s)',
    '  batch    40 = 4 devices x 10',
    '  memory   6.00 of 16.00 GiB per device: fits, 10.00 GiB to spare',
    '  compute  197 GFLOP per image x 10 / 197 TFLOP/s = 10.00 ms',
    '  traffic  1.64e+03 MB per image x 10 / 819 GB/s = 20.00 ms  <- binds',
    '  bound    at least 20.00 ms per step, at most 2,000 images/s on the slice'
    ' and 50% of the peak rate',
    '  peaks    https://docs.cloud.google.com/tpu/docs/v5e',
    '  compiled in 12 s',
  ]


def test_the_other_name_of_a_slice_is_shown():
  plan = roofline.make_plan({**FACTS, 'topology': 'v5litepod-4'})
  assert roofline.describe(plan).startswith('v5litepod-4 (v5e:2x2): 4 chips')


def test_a_step_that_does_not_fit_has_no_bound():
  facts = {
    **FACTS,
    'fits': False,
    'hbm_bytes_needed': 20 * GIB,
    'flops': None,
    'bytes_accessed': None,
  }
  plan = roofline.make_plan(facts)
  assert plan['bound'] is None
  text = roofline.describe(plan)
  assert (
    '20.00 of 16.00 GiB per device: does NOT fit, 4.00 GiB too many' in text
  )
  assert 'smaller --config.batch_size' in text
  assert 'images/s' not in text
  assert roofline.summarize([plan]).splitlines()[1].endswith('does not fit')


def test_a_table_has_a_line_for_each_slice():
  plan = roofline.make_plan(FACTS)
  lines = roofline.summarize([plan, plan]).splitlines()
  assert len(lines) == 3
  assert lines[1].split() == [
    *('v5e:2x2', '40', '10', '6.00', '16.00'),
    *('197.00', '1638.0', '20.00', '2,000', '50%', 'memory'),
  ]


@pytest.mark.parametrize('kind', ['TPU v99', 'TPU7x'])
def test_without_peak_rates_there_is_memory_and_no_bound(kind):
  plan = roofline.make_plan({**FACTS, 'device_kind': kind})
  assert plan['bound'] is None
  text = roofline.describe(plan)
  assert '6.00 of 16.00 GiB per device: fits' in text
  assert f'bound    none: no peak rates of {kind!r}' in text
  assert roofline.summarize([plan]).endswith('no peak rates')


class FakeCompiler:
  """A step needs a GiB, and a tenth of one for each image."""

  def __init__(self, available=16.0):
    self.available = available
    self.compiled = []

  def __call__(self, batch):
    self.compiled.append(batch)
    needed = 1 + batch / 10
    return {
      'per_device_batch_size': batch,
      'fits': needed <= self.available,
      'hbm_bytes_needed': needed * GIB,
      'hbm_bytes_available': self.available * GIB,
    }


@pytest.mark.parametrize('first', [1, 10, 64, 150, 151, 4096])
def test_the_largest_batch_is_found_to_within_an_eighth(first):
  compiler = FakeCompiler()
  found = roofline.find_largest(compiler, compiler(first), multiple_of=1)
  # 150 images fit; the eighths of 128 are 16 wide.
  assert found['per_device_batch_size'] == 144
  assert found['fits']
  assert len(compiler.compiled) == len(set(compiler.compiled)) <= 10


def test_the_largest_batch_divides_into_the_parts():
  compiler = FakeCompiler()
  found = roofline.find_largest(compiler, compiler(60), multiple_of=6)
  # 6 x 16, 6 x 24 = 144, and 6 x 26 = 156 is too many.
  assert found['per_device_batch_size'] == 144
  assert all(batch % 6 == 0 for batch in compiler.compiled)


def test_no_batch_may_fit():
  compiler = FakeCompiler(available=1.05)
  first = compiler(8)
  assert roofline.find_largest(compiler, first, multiple_of=1) is None


FAKE_LOWER = """
import json, sys
facts = {facts!r}
arguments = dict(a[2:].split('=', 1) for a in sys.argv[1:])
batch = int(arguments.get('config.batch_size', 40))
facts.update(
  topology=arguments['topology'],
  num_genres=int(arguments['num_genres']),
  global_batch_size=batch,
  per_device_batch_size=batch // 4,
  hbm_bytes_needed=batch // 4 * 2**30,
  fits=batch // 4 <= 16,
)
if not facts['fits']:
  facts.update(flops=None, bytes_accessed=None)
if 'config.image_sise' in arguments:
  print('12:00:00 WARNING: of a library', file=sys.stderr)
  print('error: The config has no key image_sise.', file=sys.stderr)
  sys.exit(2)
if 'config.crash' in arguments:
  raise TypeError('a fault')
print(json.dumps(facts))
"""


@pytest.fixture
def plan(tmp_path):
  """Runs the program where `genre_flax.lower` is a fake."""
  package = tmp_path / 'genre_flax'
  package.mkdir()
  (package / '__init__.py').write_text(
    f'__path__.append({str(paths.ROOT / "genre_flax")!r})\n'
  )
  (package / 'lower.py').write_text(FAKE_LOWER.format(facts=FACTS))

  def run(*arguments):
    return subprocess.run(
      [sys.executable, '-m', 'launch.plan', *arguments],
      cwd=tmp_path,
      env={**os.environ, 'PYTHONPATH': str(paths.ROOT)},
      capture_output=True,
      text=True,
      check=False,
    )

  return run


def test_the_program_plans_each_slice_and_writes_json(plan, tmp_path):
  result = plan(
    '--config=configs/some.py',
    '--topology=v5e:2x2',
    '--topology=v5e:1x4',
    '--num_genres=7',
    '--config.batch_size=8',
    '--output=plan.json',
  )
  assert result.returncode == 0, result.stderr
  assert 'poster_cnn, 250 x 240 pixels, bfloat16, 7 genres' in result.stdout
  assert 'v5e:1x4: 4 chips' in result.stdout
  assert 'A bound is not a measurement' in result.stdout
  document = json.loads((tmp_path / 'plan.json').read_text())
  assert document['config'] == 'configs/some.py'
  assert document['overrides'] == ['--config.batch_size=8']
  assert 'not a measurement' in document['note']
  assert [p['topology'] for p in document['plans']] == ['v5e:2x2', 'v5e:1x4']
  assert document['plans'][0]['per_device_batch_size'] == 2
  assert document['plans'][0]['bound']['binds'] == 'memory'


def test_the_program_searches_the_largest_batch(plan, tmp_path):
  result = plan(
    '--config=configs/some.py',
    '--topology=v5e:2x2',
    '--search_batch',
    '--output=plan.json',
  )
  assert result.returncode == 0, result.stderr
  assert '16 images per device fit, so --config.batch_size=64' in result.stdout
  assert '32 images per device: 32.00 of 16.00 GiB' in result.stderr
  (only,) = json.loads((tmp_path / 'plan.json').read_text())['plans']
  assert only['per_device_batch_size'] == 10
  assert only['largest_batch']['per_device_batch_size'] == 16
  assert only['largest_batch']['bound']['binds'] == 'memory'


@pytest.mark.parametrize(
  'arguments, message',
  [
    (('--topology=v5e:2x2',), 'Flag --config must have a value'),
    (('--config=a.py',), 'Flag --topology must have a value'),
    (
      ('--config=a.py', '--topology=v4-8', '--topolgy=v5e:2x2'),
      "Unexpected argument: '--topolgy=v5e:2x2'",
    ),
    (
      ('--config=a.py', '--topology=v5e:2x2', '--config.image_sise=9'),
      'error: The config has no key image_sise.\n',
    ),
    (
      ('--config=a.py', '--topology=v5e:2x2', '--num_genres=0'),
      'num_genres',
    ),
  ],
)
def test_wrong_arguments_are_a_message(plan, arguments, message):
  result = plan(*arguments)
  assert result.returncode == 2
  assert message in result.stderr
  assert 'Traceback' not in result.stderr
  assert 'WARNING' not in result.stderr


def test_a_fault_of_the_compilation_is_shown_whole(plan):
  result = plan('--config=a.py', '--topology=v5e:2x2', '--config.crash=1')
  assert result.returncode not in (0, 2)
  assert 'TypeError: a fault' in result.stderr
