"""oneDNN is used where its check passed, and computes the same values."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from configs import default
from genre_flax.models import registry
from genre_flax.ops import ops
from genre_flax.ops.cpu import onednn
from genre_flax.ops.cpu import onednn_check
from tests.support import helpers


@pytest.fixture
def folder(tmp_path, monkeypatch):
  """The folder of stored results; the results of this process are cleared."""
  monkeypatch.setenv('XDG_CACHE_HOME', str(tmp_path))
  onednn.check_failure.cache_clear()
  yield tmp_path / 'genre_flax' / 'onednn'
  onednn.check_failure.cache_clear()


def test_convolutions_use_the_available_library(library):
  lowered = jax.jit(ops.conv).lower(
    jnp.ones((2, 8, 8, 3)), jnp.ones((3, 3, 3, 4))
  )
  has_onednn = '__onednn$convolution' in lowered.as_text()
  assert has_onednn == onednn.is_available()


def test_not_available_with_a_compilation_cache():
  assert jax.config.jax_compilation_cache_dir
  assert not onednn.is_available()
  assert onednn.describe().startswith('XLA, about half the training speed')


@pytest.mark.parametrize('dtype', ['float32', 'bfloat16'])
def test_result_of_the_check_is_stored(dtype, folder, monkeypatch):
  failure = onednn.check_failure(dtype)
  if 'no bfloat16 instructions' in failure:
    pytest.skip(failure)
  (path,) = folder.iterdir()
  assert path.read_text() == (failure or 'works')
  monkeypatch.setattr(onednn, '_run_check', None)  # Not called again.
  onednn.check_failure.cache_clear()
  assert onednn.check_failure(dtype) == failure


@pytest.mark.parametrize(
  'flags, has_bfloat16', [('amx_bf16', True), ('avx512_vnni', False)]
)
def test_bfloat16_needs_cpu_instructions(
  flags, has_bfloat16, folder, monkeypatch
):
  monkeypatch.setattr(
    onednn, '_cpu_description', lambda: [f'flags\t\t: {flags}']
  )
  monkeypatch.setattr(onednn, '_run_check', lambda dtype: ('works', True))
  assert onednn.check_failure('float32') == ''
  assert ('AMX' in onednn.check_failure('bfloat16')) == (not has_bfloat16)


@pytest.mark.parametrize(
  'command, reason, is_stored',
  [
    ('exit 1', 'the check in float32 failed: exit code 1', True),
    ('kill -ILL $$', 'failed: exit code -', True),
    ('kill -KILL $$', 'failed: exit code -', False),
    ('exec sleep 60', 'did not finish: TimeoutExpired', False),
  ],
)
def test_failed_check_is_stored_and_interrupted_check_repeated(
  command, reason, is_stored, folder, tmp_path, monkeypatch
):
  program = tmp_path / 'program'
  program.write_text(f'#!/bin/sh\n{command}\n')
  program.chmod(0o755)
  monkeypatch.setattr(onednn.sys, 'executable', str(program))
  monkeypatch.setattr(onednn, '_CHECK_TIMEOUT_SECONDS', 0.5)
  assert reason in onednn.check_failure('float32')
  assert folder.exists() == is_stored


@pytest.mark.parametrize(
  'content, expected', [(b'', 'checked again'), (b'\xff\xfe', '\ufffd\ufffd')]
)
def test_damaged_result_does_not_pass(folder, monkeypatch, content, expected):
  result = 'checked again', True
  monkeypatch.setattr(onednn, '_run_check', lambda dtype: result)
  onednn.check_failure('float32')
  (path,) = folder.iterdir()
  path.write_bytes(content)
  onednn.check_failure.cache_clear()
  assert onednn.check_failure('float32') == expected


def test_cache_folder_that_cannot_be_written(monkeypatch, folder):
  folder.parent.write_text('')
  monkeypatch.setattr(onednn, '_run_check', lambda dtype: ('works', True))
  assert onednn.check_failure('float32') == ''


@pytest.mark.usefixtures('with_onednn')
def test_check_detects_wrong_values(monkeypatch):
  monkeypatch.setattr(onednn, 'matmul', lambda a, b, **_: a @ b + 1)
  with pytest.raises(AssertionError, match='Mismatched'):
    onednn_check.check('float32')


def loss_and_gradients(name):
  """Of a network in training without dropout; and whether it uses oneDNN."""
  config = default.get_config().model
  config.name = name
  config.resnet.features, config.resnet.num_blocks = (8, 16), (1, 1)
  for key in config[name]:
    if key.endswith(('dropout_rate', 'depth_rate')):
      config[name][key] = 0.0
  model = registry.create_from_config(config, num_genres=5)
  height, width = {'poster_cnn': (96, 80), 'vit': (48, 32)}.get(name, (40, 32))
  # Of other images, rounding errors may change the maximum of a pool.
  images = jax.random.normal(jax.random.key(0), (4, height, width, 3))
  init = jax.jit(functools.partial(model.init, train=False))
  variables = init(jax.random.key(1), images)

  def loss(params, images):
    logits, _ = model.apply(
      {**variables, 'params': params},
      images,
      train=True,
      mutable=['batch_stats'],
    )
    return jnp.sin(logits + jnp.arange(5)).sum()

  step = jax.jit(jax.value_and_grad(loss, argnums=(0, 1)))
  lowered = step.lower(variables['params'], images)
  return step(variables['params'], images), '__onednn$' in lowered.as_text()


@pytest.mark.usefixtures('short_networks', 'with_onednn')
@pytest.mark.parametrize(
  'name',
  [
    pytest.param(name, marks=[pytest.mark.slow] * (name != 'tiny'))
    for name in helpers.IMAGE_NETWORKS
  ],
)
def test_networks_compute_the_same_with_xla(name, monkeypatch):
  got, has_onednn = loss_and_gradients(name)
  assert has_onednn
  monkeypatch.setenv('GENRE_FLAX_ONEDNN', '0')
  jax.clear_caches()
  expected, has_onednn = loss_and_gradients(name)
  assert not has_onednn
  for a, b in zip(jax.tree.leaves(got), jax.tree.leaves(expected), strict=True):
    scale = max(1.0, float(np.abs(b).max()))
    np.testing.assert_allclose(a / scale, b / scale, atol=2e-5)
