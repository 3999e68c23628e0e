"""Tests of genre_flax/training/resume.py."""

import functools
import shutil

from absl import flags
import jax
import pytest

from genre_flax import config as config_lib
from genre_flax.inference import predictor as predictor_lib
from genre_flax.runtime import errors
from genre_flax.runtime import shared_flags
from genre_flax.training import restore
from genre_flax.training import resume
from genre_flax.training import run_history
from genre_flax.training import setup as setup_lib
from genre_flax.training import train
from tests.support import helpers
from tests.support import programs


def check_resumable(before, now, allow_change=()):
  before, now = (helpers.tiny_config('data', **one) for one in (before, now))
  resume.check_resumable(config_lib.to_dict(before), now, allow_change)


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
  resume.check_resumable(stored, config)
  config.ema_decay = 0.5
  with pytest.raises(errors.InputError, match='config.ema_decay: 0.0 when'):
    resume.check_resumable(stored, config)


def test_allowed_keys_may_change():
  changes = {'batch_size': 32, 'optimizer.learning_rate': 0.5}
  check_resumable({}, changes, ['batch_size', 'optimizer.learning_rate'])
  with pytest.raises(errors.InputError) as e:
    check_resumable({}, changes, ['batch_size'])
  assert 'config.batch_size: ' not in str(e.value)
  assert '--allow_change=batch_size,optimizer.learning_rate' in str(e.value)
  with pytest.raises(errors.InputError, match='=learning_rate: .*no such key'):
    check_resumable({}, {}, ['learning_rate'])


def test_resume_with_changed_keys(data_dir, trained_workdir, tmp_path, caplog):
  workdir = tmp_path / 'run'
  shutil.copytree(trained_workdir, workdir)
  key = 'optimizer.learning_rate'
  config = helpers.tiny_config(data_dir, num_train_steps=31, **{key: 1e-9})
  with pytest.raises(errors.InputError, match='num_train_steps'):
    train.train(config, workdir, allow_change=[key])
  before = helpers.final_state(config, workdir)
  train.train(config, workdir, allow_change=[key, 'num_train_steps'])
  after = helpers.final_state(config, workdir)
  assert after.step == 31
  helpers.assert_trees_close(after.params, before.params, atol=1e-7)
  assert f'config.{key} was 0.003 and is now 1e-09' in caplog.text
  first, second = run_history.read(workdir)
  assert first['changed_keys'] == {}
  assert second['step'] == 30
  assert second['changed_keys'] == {
    key: [0.003, 1e-9],
    'num_train_steps': [30, 31],
  }
  assert 'The run had 30 steps and has 31 now' in caplog.text
  shorter = helpers.tiny_config(data_dir, num_train_steps=20, **{key: 1e-9})
  with pytest.raises(errors.InputError, match='31 updates; .* not 20'):
    train.train(shorter, workdir, allow_change=['num_train_steps'])
  # Earlier checkpoints have the former config.
  assert train.train(config, workdir).step == 31


def test_change_of_the_arrays_is_refused_and_moves_no_checkpoint(
  data_dir, trained_workdir
):
  config = helpers.tiny_config(data_dir, num_train_steps=30, ema_decay=0.9)
  for function in (train.train, describe_resume):
    with pytest.raises(errors.InputError, match='other parameters'):
      function(config, trained_workdir, allow_change=['ema_decay'])
  assert not (trained_workdir / 'corrupt').exists()


@pytest.mark.parametrize(
  ('name', 'value'),
  [('jax_enable_x64', True), ('jax_default_prng_impl', 'rbg')],
)
def test_other_settings_of_jax_are_refused(
  data_dir, trained_workdir, name, value, request
):
  request.addfinalizer(
    functools.partial(jax.config.update, name, getattr(jax.config, name))
  )
  jax.config.update(name, value)
  config = helpers.tiny_config(data_dir, num_train_steps=30)
  message = f'{name.upper()} was .* is now {value}'
  with pytest.raises(errors.InputError, match=message):
    train.train(config, trained_workdir)
  assert not (trained_workdir / 'corrupt').exists()
  # The results of an evaluation do not depend on it.
  predictor_lib.restore(trained_workdir)


def describe_resume(config, workdir, **options):
  return restore.describe_start(
    config, *setup_lib.set_up(config, workdir), workdir, **options
  )


def test_the_dry_run_describes_the_workdir(data_dir, trained_workdir, tmp_path):
  config = helpers.tiny_config(data_dir, num_train_steps=30)
  assert 'resumed after step 30 of 30' in describe_resume(
    config, trained_workdir
  )
  missing = tmp_path / 'none'
  assert 'no checkpoint' in describe_resume(config, missing)
  assert not missing.exists()
  config.seed = 5
  with pytest.raises(errors.InputError, match='config.seed: 0 when'):
    describe_resume(config, trained_workdir)


@pytest.mark.parametrize('part', ['checkpoints', 'checkpoints/30'])
def test_a_part_of_a_workdir_is_refused(trained_workdir, tmp_path, part):
  assert shared_flags._check_workdir(f'{tmp_path}/{part}')
  with pytest.raises(flags.ValidationError, match=f'{trained_workdir}'):
    shared_flags._check_workdir(f'{trained_workdir}/{part}')


@pytest.mark.slow
def test_the_dry_run_of_the_config_of_a_run(trained_workdir):
  done = programs.run(
    'main',
    f'--config={trained_workdir / "config.json"}',
    f'--workdir={trained_workdir}',
    '--config.seed=5',
    '--allow_change=seed',
    '--dry_run',
  )
  assert done.returncode == 0, done.stderr
  assert (
    f'The run in {trained_workdir} can be resumed after step 30 of 30'
    in done.stdout
  )


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


def test_custom_code_of_a_config_file_needs_permission(tmp_path):
  config = helpers.tiny_config('unused', **{'optimizer.name': 'os:system'})
  config.optimizer.options = {'command': f'touch {tmp_path}/ran'}
  path = tmp_path / 'config.json'
  path.write_text(config.to_json_best_effort())
  done = programs.run('main', f'--config={path}', f'--workdir={tmp_path}/run')
  assert done.returncode == 2
  assert '--allow_custom_code' in done.stderr
  assert not (tmp_path / 'ran').exists()
