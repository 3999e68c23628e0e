"""Where parameters come from, in whole runs."""

import shutil

import jax
import numpy as np
import pytest

from genre_flax.checkpoints import checkpointer as checkpointer_lib
from genre_flax.datasets.posters import build
from genre_flax.runtime import errors
from genre_flax.training import initialize
from genre_flax.training import resume
from genre_flax.training import run as run_lib
from genre_flax.training import train
from tests.support import helpers


@pytest.fixture(scope='module')
def source(data_dir, tmp_path_factory):
  """The workdir of a short run."""
  workdir = tmp_path_factory.mktemp('source')
  train.train_and_evaluate(
    helpers.tiny_config(data_dir, num_train_steps=3), workdir
  )
  return workdir


def start(config, tmp_path):
  """The variables that a run would start from."""
  run = run_lib.set_up(config, tmp_path)
  return run, initialize.make_variables(run, run.create_state())


def test_the_head_starts_at_the_label_prior(data_dir, dataset, tmp_path):
  _, got = start(helpers.tiny_config(data_dir), tmp_path)
  bias = got['params']['head']['bias']
  occurs = dataset.label_prior > 0
  np.testing.assert_allclose(
    1 / (1 + np.exp(-bias[occurs])), dataset.label_prior[occurs], rtol=1e-4
  )
  plain = helpers.tiny_config(data_dir, head_bias_from_prior=False)
  _, got = start(plain, tmp_path)
  assert not got['params']['head']['bias'].any()


@pytest.mark.parametrize('parts', ['backbone', 'all'])
def test_another_runs_best_checkpoint_is_taken(
  data_dir, source, tmp_path, parts
):
  config = helpers.tiny_config(
    data_dir, seed=5, init_from=str(source), init_from_parts=parts
  )
  run, got = start(config, tmp_path)
  _, _, theirs = checkpointer_lib.read_model(source, step='best')
  for name, layer in got['params'].items():
    same = np.array_equal(layer['kernel'], theirs['params'][name]['kernel'])
    assert same == (parts == 'all' or name != 'head')
  # And it is what the run trains.
  state = run.create_state().with_variables(
    got, optimizer=run.optimizer, trainable='.*'
  )
  helpers.assert_trees_equal(jax.device_get(state.params), got['params'])


def test_an_optimizer_that_remembers_parameters_begins_with_those(
  data_dir, source, tmp_path
):
  config = helpers.tiny_config(
    data_dir, seed=5, init_from=str(source), init_from_parts='all'
  )
  config.optimizer.name = 'optax.contrib:prodigy'
  run, got = start(config, tmp_path)
  with checkpointer_lib.Checkpointer(tmp_path) as checkpointer:
    state, _ = resume.restore_or_create(run, checkpointer)
  remembered = jax.tree.leaves(
    jax.device_get(state.opt_state),
    is_leaf=lambda leaf: isinstance(leaf, dict),
  )
  path = 'head/kernel'
  first = [
    leaf[path] for leaf in remembered if isinstance(leaf, dict) and path in leaf
  ]
  assert any(
    np.array_equal(array, got['params']['head']['kernel']) for array in first
  )


def test_another_architecture_is_refused_with_the_differences(
  data_dir, source, tmp_path
):
  config = helpers.tiny_config(
    data_dir, init_from=str(source), **{'model.tiny.features': (8, 16, 32)}
  )
  with pytest.raises(errors.InputError) as e:
    start(config, tmp_path)
  assert 'missing: ConvMaxPool_2/bias, ConvMaxPool_2/kernel' in str(e.value)
  assert f'checkpoint 3 in {source}' in str(e.value)


def test_a_head_of_other_genres_is_refused(source, tmp_path):
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
    start(config, tmp_path / 'run')


def test_a_workdir_without_a_checkpoint_is_refused(data_dir, tmp_path):
  config = helpers.tiny_config(data_dir, init_from=str(tmp_path / 'none'))
  with pytest.raises(errors.InputError, match='none has no checkpoint'):
    start(config, tmp_path)


def test_a_damaged_source_is_told_with_the_checkpoints_that_are_whole(
  data_dir, source, tmp_path
):
  shutil.copytree(source, tmp_path / 'source')
  for path in (tmp_path / 'source' / 'checkpoints').rglob('model/**/*'):
    if path.is_file():
      path.write_bytes(path.read_bytes()[:-1])
  config = helpers.tiny_config(data_dir, init_from=str(tmp_path / 'source'))
  with pytest.raises(errors.DamageError, match='Undamaged checkpoints: none'):
    train.train_and_evaluate(config, tmp_path / 'run')
