"""Tests of genre_flax/training/restore.py."""

import shutil

import jax
import numpy as np
import pytest

from genre_flax.checkpoints import checkpointer as checkpointer_lib
from genre_flax.datasets.posters import build
from genre_flax.models import initialization
from genre_flax.runtime import errors
from genre_flax.training import restore
from genre_flax.training import setup as setup_lib
from genre_flax.training import train
from tests.support import helpers


@pytest.fixture(scope='module')
def source(data_dir, tmp_path_factory):
  """The workdir of a short run."""
  workdir = tmp_path_factory.mktemp('source')
  train.train(helpers.tiny_config(data_dir, num_train_steps=3), workdir)
  return workdir


def initial_variables(config, workdir):
  dataset, setup = setup_lib.set_up(config, workdir)
  return restore.initial_variables(config, dataset, setup.model)


def test_head_bias_is_the_label_prior(data_dir, dataset, tmp_path):
  got = initial_variables(helpers.tiny_config(data_dir), tmp_path)
  bias = got['params']['head']['bias']
  occurs = dataset.label_prior > 0
  np.testing.assert_allclose(
    1 / (1 + np.exp(-bias[occurs])), dataset.label_prior[occurs], rtol=1e-4
  )
  plain = helpers.tiny_config(data_dir, head_bias_from_prior=False)
  got = initial_variables(plain, tmp_path)
  assert not got['params']['head']['bias'].any()


@pytest.mark.parametrize('parts', ['backbone', 'all'])
def test_init_from_uses_the_best_checkpoint(data_dir, source, tmp_path, parts):
  config = helpers.tiny_config(
    data_dir, seed=5, init_from=str(source), init_from_parts=parts
  )
  got = initial_variables(config, tmp_path)
  _, _, theirs = checkpointer_lib.read_model(source, step='best')
  for name, layer in got['params'].items():
    same = np.array_equal(layer['kernel'], theirs['params'][name]['kernel'])
    assert same == (parts == 'all' or name != 'head')


def test_optimizer_state_is_initialized_from_the_restored_parameters(
  data_dir, source, tmp_path
):
  config = helpers.tiny_config(
    data_dir, seed=5, init_from=str(source), init_from_parts='all'
  )
  config.optimizer.name = 'optax.contrib:prodigy'
  config.optimizer.weight_decay = 0.0
  got = initial_variables(config, tmp_path)
  dataset, setup = setup_lib.set_up(config, tmp_path)
  with checkpointer_lib.Checkpointer(tmp_path) as checkpointer:
    state, _ = restore.restore_or_initialize(
      checkpointer, config, dataset, setup
    )
  helpers.assert_trees_equal(jax.device_get(state.params), got['params'])
  # Prodigy stores the first parameters.
  kernel = got['params']['head']['kernel']
  assert any(
    np.array_equal(leaf, kernel) for leaf in jax.tree.leaves(state.opt_state)
  )


def test_other_architecture_is_refused_with_the_differences(
  data_dir, source, tmp_path
):
  config = helpers.tiny_config(
    data_dir, init_from=str(source), **{'model.tiny.features': (8, 16, 32)}
  )
  with pytest.raises(errors.InputError) as e:
    initial_variables(config, tmp_path)
  assert 'missing: ConvMaxPool_2/bias, ConvMaxPool_2/kernel' in str(e.value)
  assert f'checkpoint 3 in {source}' in str(e.value)


def test_weights_that_are_not_finite_are_refused():
  trees = [
    {'params': {'a': {'kernel': np.float32([1, x])}}, 'batch_stats': {}}
    for x in (0, np.inf)
  ]
  with pytest.raises(errors.InputError, match='x has NaN.* in a/kernel'):
    initialization.merge_pretrained(*trees, origin='x', with_head=False)


@pytest.mark.usefixtures('short_networks')
@pytest.mark.parametrize(
  ('changes', 'message'),
  [
    ({'init_from': 'nowhere'}, 'nowhere has no checkpoint'),
    (
      {'pretrained': 'no.safetensors', 'model.name': 'vit'}
      | {'model.vit.patch': 8},
      'no.safetensors cannot be read',
    ),
  ],
)
def test_the_dry_run_finds_missing_weights(
  data_dir, tmp_path, changes, message
):
  config = helpers.tiny_config(data_dir, **changes)
  parts = setup_lib.set_up(config, tmp_path)
  with pytest.raises(errors.InputError, match=message):
    restore.describe_start(config, *parts, tmp_path)


def test_a_full_disk_is_found_before_the_first_step(
  data_dir, tmp_path, monkeypatch
):
  monkeypatch.setattr(restore.files, 'free_space', lambda path: 1000)
  config = helpers.tiny_config(data_dir)
  parts = setup_lib.set_up(config, tmp_path)
  with pytest.raises(errors.StorageError, match=r'0\.000 GB are free'):
    restore.describe_start(config, *parts, tmp_path)
  with pytest.raises(errors.StorageError, match='No space left'):
    train.train(config, tmp_path)


def test_head_with_other_genres_is_refused(source, tmp_path):
  csv, images = build.synthetic.write_posters(tmp_path / 'p', num_posters=80)
  build.build(
    build.sources_lib.Source(csv, images),
    data_dir=tmp_path / 'data',
    exclude_genres=['Western'],
    skip_bad=True,
  )
  config = helpers.tiny_config(
    tmp_path / 'data', init_from=str(source), init_from_parts='all'
  )
  with pytest.raises(errors.InputError, match='init_from_parts=backbone'):
    initial_variables(config, tmp_path / 'run')


def test_workdir_without_checkpoint_is_refused(data_dir, tmp_path):
  config = helpers.tiny_config(data_dir, init_from=str(tmp_path / 'none'))
  with pytest.raises(errors.InputError, match='none has no checkpoint'):
    initial_variables(config, tmp_path)


def test_damaged_source_is_an_error_with_the_undamaged_checkpoints(
  data_dir, source, tmp_path
):
  shutil.copytree(source, tmp_path / 'source')
  for path in (tmp_path / 'source' / 'checkpoints').rglob('model/**/*'):
    if path.is_file():
      path.write_bytes(path.read_bytes()[:-1])
  config = helpers.tiny_config(data_dir, init_from=str(tmp_path / 'source'))
  with pytest.raises(errors.DamageError, match='Undamaged checkpoints: none'):
    train.train(config, tmp_path / 'run')
