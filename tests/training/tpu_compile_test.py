"""Tests of the step compiled for v5e:2x2, with a tiny network."""

import importlib.util
import json
import os
import re
import subprocess
import sys

import pytest

from genre_flax.runtime import accelerators
from genre_flax.runtime import errors
from genre_flax.training import tpu_compile
from tests.support import programs

needs_libtpu = pytest.mark.skipif(
  importlib.util.find_spec('libtpu') is None,
  reason="the TPU compiler is not installed: pip install -e '.[tpu]'",
)
GIB = 2**30
TINY = (
  '--config=configs/quickstart.py',
  '--topology=v5e:2x2',
  '--config.dataset.synthetic_posters=0',
  '--config.image_height=32',
  '--config.image_width=32',
  '--config.model.tiny.features=(4, 8)',
)


def lower(*arguments):
  """The facts that the program prints of a step."""
  result = programs.run('lower', *TINY, *arguments)
  assert result.returncode == 0, result.stderr
  return json.loads(result.stdout)


@pytest.fixture(scope='module')
def compiled(tmp_path_factory):
  """A step of 32 images: its facts and its HLO."""
  path = tmp_path_factory.mktemp('hlo') / 'step.txt'
  return lower('--config.batch_size=32', f'--hlo={path}'), path.read_text()


@needs_libtpu
class TestCompile:
  def test_facts_describe_the_compiled_step(self, compiled):
    facts, _ = compiled
    assert {key: facts[key] for key in EXPECTED} == EXPECTED
    assert set(facts) - set(EXPECTED) == {
      *('hbm_bytes_needed', 'flops', 'bytes_accessed'),
      *('compile_seconds', 'versions'),
    }
    assert set(facts['versions']) == {'jax', 'libtpu'}

  def test_gradients_are_summed_over_all_devices(self, compiled):
    _, program = compiled
    sums = re.findall(
      r'f32\[3,3,3,4\][^\n]* all-reduce(?:-start)?\([^\n]*', program
    )
    assert sums  # The first kernel's gradient.
    for line in sums:
      # The format of libtpu 0.0.42 and 0.0.50.
      assert '{{0,1,2,3}}' in line or "mesh['batch'=4] {'batch'}" in line

  def test_reference_implementations_are_compiled(self, compiled):
    # The CPU kernel of a pool is a maximum of slices.
    _, program = compiled
    assert 'reduce-window' in program
    assert 'select-and-scatter' in program

  def test_float32_products_take_one_pass(self, compiled):
    # The roofline of `launch.plan` assumes it.
    _, program = compiled
    assert 'operand_precision={high' not in program

  def test_flops_against_hand_computed_values(self, compiled):
    facts, _ = compiled
    # Crop: two products of 32 x 32 with 32 x 32 x 3 pixels. First convolution,
    # its value and the gradient of its kernel: 30 x 30 x 4 x (3 x 3 x 3). The
    # second also the gradient of its inputs: 13 x 13 x 8 x (3 x 3 x 4).
    products = 2 * 32**3 * 3 + 2 * 30**2 * 4 * 27 + 3 * 13**2 * 8 * 36
    image = facts['flops'] / facts['per_device_batch_size']
    # Elementwise operations are added.
    assert 2 * products < image < 1.2 * 2 * products

  def test_memory_and_cost_grow_with_the_batch(self, compiled):
    facts, _ = compiled
    larger = lower('--config.batch_size=128')
    # At least the 24 more images, as uint8.
    assert larger['hbm_bytes_needed'] - facts['hbm_bytes_needed'] > 24 * 3072
    assert larger['flops'] / facts['flops'] == pytest.approx(4, rel=0.1)
    # Not proportional: the layouts of small batches are padded.
    assert larger['bytes_accessed'] > facts['bytes_accessed']

  def test_flops_cover_all_micro_batches(self, compiled):
    facts, _ = compiled
    parts = lower('--config.batch_size=64', '--config.micro_batch_size=8')
    assert parts['per_device_batch_size'] == 16
    assert parts['flops'] == pytest.approx(2 * facts['flops'], rel=0.1)

  def test_step_larger_than_the_memory_is_reported(self):
    facts = lower(f'--config.batch_size={2**23}')
    assert facts['fits'] is False
    # The images alone take 6 GiB, and their float32 values 48 GiB.
    assert facts['hbm_bytes_needed'] > facts['hbm_bytes_available']
    assert facts['hbm_bytes_available'] == EXPECTED['hbm_bytes_available']
    assert facts['flops'] is facts['bytes_accessed'] is None

  def test_step_on_cached_features(self):
    result = programs.run(
      'lower',
      '--config=configs/linear_probe.py',
      '--topology=v5e:2x2',
      '--num_genres=20',
    )
    assert result.returncode == 0, result.stderr
    facts = json.loads(result.stdout)
    # 2992 features, forward and for the gradient; the backbone would need
    # thousands of times as many operations.
    image = facts['flops'] / facts['per_device_batch_size']
    assert 2 * 2 * 2992 * 20 < image < 2 * 2 * 2 * 2992 * 20

  @pytest.mark.parametrize(
    'flag, message',
    [
      ('--config.batch_size=30', 'is not a multiple of 4 device(s)'),
      ('--topology=v9:2x2', 'v6e: 1x1, 2x2, 2x4, 4x4'),
      ('--topology=v5e', "'v5e' is not a TPU slice"),
      ('--topology=v5e:2x3', '--topology=v5e:2x3 is no slice'),
    ],
  )
  def test_invalid_batch_or_slice_is_refused(self, flag, message):
    result = programs.run('lower', *TINY, flag)
    assert result.returncode == 2
    assert message in result.stderr

  def test_compiler_has_the_listed_slices(self):
    code = (
      'from genre_flax.training import tpu_compile as t; import json;'
      'from genre_flax.runtime import accelerators as a;'
      'print(json.dumps([(p.name, len(d), len({x.process_index for x in d}))'
      ' for c in a.TPUS.values() for s in c.topologies'
      ' for p in [a.Slice(c, s)] for d in [t.slice_devices(p.type)]]))'
    )
    result = subprocess.run(
      [sys.executable, '-c', code],
      env={**os.environ, 'JAX_PLATFORMS': 'cpu'},
      capture_output=True,
      text=True,
      check=True,
    )
    for name, num_devices, num_hosts in json.loads(result.stdout):
      found = accelerators.parse_slice(name)
      assert (found.num_devices, found.num_hosts) == (num_devices, num_hosts)


EXPECTED = {
  'topology': 'v5e:2x2',
  'device_kind': 'TPU v5 lite',
  'num_devices': 4,
  'num_chips': 4,
  'num_hosts': 1,
  'model': 'tiny',
  'dtype': 'float32',
  'image_height': 32,
  'image_width': 32,
  'num_genres': 25,
  'micro_batch_size': None,
  'global_batch_size': 32,
  'per_device_batch_size': 8,
  # The chip has 16 GiB, of which the compiler reserves a quarter of a GiB.
  'hbm_bytes_available': int(15.75 * GIB),
  'fits': True,
}


@pytest.mark.parametrize(
  'message, needed, available',
  [
    (
      'RESOURCE_EXHAUSTED: Ran out of memory in memory space hbm. Used 20.25G'
      ' of 15.75G hbm. Exceeded hbm capacity by 4.50G.',
      int(20.25 * GIB),
      int(15.75 * GIB),
    ),
    (
      'RESOURCE_EXHAUSTED: Ran out of memory on HBM, the total memory required'
      ' for HLO temporaries (1.5T) exceeds available HBM (512.00M).',
      int(1.5 * 2**40),
      512 * 2**20,
    ),
  ],
)
def test_parse_out_of_memory_messages(message, needed, available):
  assert tpu_compile.parse_out_of_memory(message) == (needed, available)


def test_other_compiler_errors_raise():
  with pytest.raises(RuntimeError, match='failed: INTERNAL: RET_CHECK'):
    tpu_compile.parse_out_of_memory('INTERNAL: RET_CHECK failure')


def test_missing_compiler_error_states_the_install_command(monkeypatch):
  monkeypatch.setattr(importlib.util, 'find_spec', lambda name: None)
  with pytest.raises(errors.InputError, match=r"pip install -e '\.\[tpu\]'"):
    tpu_compile.slice_devices('v5e:2x2')
