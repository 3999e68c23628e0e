"""Tests of genre_flax/training/restore.py."""

import shutil

import jax
import numpy as np
import pytest

from genre_flax import config as config_lib
from genre_flax.checkpoints import checkpointer as checkpointer_lib
from genre_flax.datasets.posters import build
from genre_flax.runtime import errors
from genre_flax.training import restore
from genre_flax.training import run_history
from genre_flax.training import setup as setup_lib
from genre_flax.training import train
from tests.support import helpers
from tests.support import programs


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


def check_resumable(before, now, allow_change=()):
  before, now = (helpers.tiny_config('data', **one) for one in (before, now))
  restore.check_resumable(config_lib.to_dict(before), now, allow_change)


@pytest.mark.parametrize(
  'changes',
  [
    {},
    {'log_every': 7},
    {'dataset.cache': 'none', 'dataset.cache_dir': 'elsewhere'},
    {'dataset.data_dir': 'elsewhere'},
    {'checkpoint_every_steps': 3},
    {'model.vit.pool': 'mean', 'model.resnet.dropout_rate': 0.0},
  ],
)
def test_keys_without_influence_may_change_on_resume(changes):
  check_resumable({}, changes)


def test_other_keys_are_listed_with_both_values():
  with pytest.raises(errors.InputError) as e:
    check_resumable({}, {'batch_size': 32, 'optimizer.learning_rate': 0.5})
  assert 'config.batch_size: 16 when the run was started, 32 now' in str(
    e.value
  )
  assert 'config.optimizer.learning_rate: 0.003' in str(e.value)


def test_keys_of_a_later_version_count_as_their_default():
  config = helpers.tiny_config('data')
  stored = config_lib.to_dict(config)
  del stored['ema_decay'], stored['model']['tiny']['dropout_rate']
  restore.check_resumable(stored, config)
  config.ema_decay = 0.5
  with pytest.raises(errors.InputError, match='config.ema_decay: 0.0 when'):
    restore.check_resumable(stored, config)


def test_allowed_keys_may_change():
  changes = {'batch_size': 32, 'optimizer.learning_rate': 0.5}
  check_resumable({}, changes, ['batch_size', 'optimizer.learning_rate'])
  with pytest.raises(errors.InputError) as e:
    check_resumable({}, changes, ['batch_size'])
  assert 'config.batch_size: ' not in str(e.value)
  assert '--allow_change=batch_size,optimizer.learning_rate' in str(e.value)
  with pytest.raises(errors.InputError, match='=learning_rate: .*no such key'):
    check_resumable({}, {}, ['learning_rate'])


def test_resume_with_changed_keys(data_dir, source, tmp_path, caplog):
  workdir = tmp_path / 'run'
  shutil.copytree(source, workdir)
  key = 'optimizer.learning_rate'
  config = helpers.tiny_config(data_dir, num_train_steps=4, **{key: 1e-9})
  with pytest.raises(errors.InputError, match='num_train_steps'):
    train.train(config, workdir, allow_change=[key])
  before = helpers.final_state(config, workdir)
  train.train(config, workdir, allow_change=[key, 'num_train_steps'])
  after = helpers.final_state(config, workdir)
  assert after.step == 4
  helpers.assert_trees_close(after.params, before.params, atol=1e-7)
  assert f'config.{key} is 1e-09 from step 3 on, and was 0.003' in caplog.text
  first, second = run_history.read(workdir)
  assert first['changed_keys'] == {}
  assert second['step'] == 3
  assert second['changed_keys'] == {
    key: [0.003, 1e-9],
    'num_train_steps': [3, 4],
  }
  # The best checkpoint, of step 3, has the former config.
  assert train.train(config, workdir).step == 4


def test_change_of_the_arrays_is_refused_and_moves_no_checkpoint(
  data_dir, source
):
  config = helpers.tiny_config(data_dir, num_train_steps=3, ema_decay=0.9)
  for function in (train.train, describe_resume):
    with pytest.raises(errors.InputError, match='other parameters'):
      function(config, source, allow_change=['ema_decay'])
  assert not (source / 'corrupt').exists()


def describe_resume(config, workdir, **options):
  return restore.describe_resume(
    config, *setup_lib.set_up(config, workdir), workdir, **options
  )


def test_the_dry_run_describes_the_workdir(data_dir, source, tmp_path):
  config = helpers.tiny_config(data_dir, num_train_steps=3)
  assert 'resumed after step 3 of 3' in describe_resume(config, source)
  missing = tmp_path / 'none'
  assert 'no checkpoint' in describe_resume(config, missing)
  assert not missing.exists()
  config.seed = 5
  with pytest.raises(errors.InputError, match='config.seed: 0 when'):
    describe_resume(config, source)


def test_the_config_of_a_run_on_the_command_line(source, tmp_path):
  flags = [
    f'--config={source / "config.json"}',
    f'--workdir={source}',
    '--dry_run',
  ]
  features = '--config.model.tiny.features=(8, 16)'
  seed = '--config.seed=5'
  unknown = tmp_path / 'config.json'
  unknown.write_text('{"sead": 1}')
  same, other, allowed, invalid = programs.run_each(
    'main',
    [
      [*flags, features],
      [*flags, seed],
      [*flags, seed, '--allow_change=seed'],
      [f'--config={unknown}', *flags[1:]],
    ],
  )
  assert (same[0], allowed[0]) == (0, 0), (same, allowed)
  assert (other[0], invalid[0]) == (2, 2)
  assert 'config.seed: 0 when the run was started, 5 now' in other[1]
  assert 'sead' in invalid[1]


def test_feature_cache_is_another_run():
  plain, features = {'dataset.cache': 'none'}, {'dataset.cache': 'features'}
  for before, now in ((plain, features), (features, plain)):
    with pytest.raises(errors.InputError, match=r'dataset\.cache'):
      check_resumable(before, now)


def test_length_may_change_with_a_constant_rate():
  longer = {'num_train_steps': 12}
  with pytest.raises(errors.InputError, match='num_train_steps'):
    check_resumable({}, longer)
  constant = {'optimizer.schedule': 'constant'}
  check_resumable(constant, {**constant, **longer})
