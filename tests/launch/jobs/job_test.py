import dataclasses

import pytest

from genre_flax.runtime import errors
from launch.jobs import job as job_lib

ARGS = ('--config=configs/tpu_pod.py', '--workdir=gs://bucket/run')


def make(*args, name='posters', binary='train', env=()):
  return job_lib.make(name, binary, args=args or ARGS, env=env)


def test_the_command_is_the_binary_with_all_that_was_given():
  job = make(*ARGS, '--config.batch_size=2048', env=['A=b c', 'B='])
  assert job.command('py', distributed=True) == [
    *('env', 'A=b c', 'B=', 'py', '-m', 'genre_flax.main', '--distributed'),
    *ARGS,
    '--config.batch_size=2048',
  ]
  assert make().command('py', distributed=False) == [
    *('py', '-m', 'genre_flax.main'),
    *ARGS,
  ]
  job = make(*ARGS, '--distributed')
  assert job.command('py', distributed=True).count('--distributed') == 1


@pytest.mark.parametrize(
  ('binary', 'args', 'module', 'is_writer', 'folder'),
  [
    ('train', ARGS, 'genre_flax.main', True, 'gs://bucket/run'),
    ('top3', ('--workdir', 'w'), 'genre_flax.top3', False, 'w'),
    ('prepare', ('--data_dir=d',), 'genre_flax.prepare', True, 'd'),
  ],
)
def test_each_binary_has_its_module_and_folder(
  binary, args, module, is_writer, folder
):
  job = make(*args, binary=binary)
  assert job.command('py', distributed=False)[2] == module
  assert (job.is_writer, job.folder) == (is_writer, folder)


@pytest.mark.parametrize(
  ('changes', 'message'),
  [
    ({'name': 'Posters'}, 'lower-case'),
    ({'name': '1posters'}, 'a letter first'),
    ({'name': 'posters-'}, 'no dash last'),
    ({'name': 'p' * 41}, 'at most 40'),
    ({'args': ()}, 'after a lone --'),
    ({'args': ARGS[:1]}, '--workdir is missing among the flags of train'),
    ({'args': ARGS[1:]}, '--config is missing among the flags of train'),
    ({'binary': 'prepare'}, '--data_dir is missing'),
    ({'env': ['A']}, 'NAME=VALUE'),
    ({'env': ['1A=b']}, 'NAME=VALUE'),
  ],
)
def test_what_cannot_be_is_refused(changes, message):
  given = {'name': 'posters', 'binary': 'train', 'args': ARGS, **changes}
  with pytest.raises(errors.InputError, match=message):
    job_lib.make(given.pop('name'), given.pop('binary'), **given)


def test_flags_are_found_in_both_forms_and_the_last_wins():
  args = ['--a=1', '--workdir', 'x', '-a', '2', '--b']
  assert job_lib.get_flag(args, 'a') == '2'
  assert job_lib.get_flag(args, 'workdir') == 'x'
  assert job_lib.get_flag(args, 'b') is None
  assert job_lib.get_flag(args, 'work') is None


def test_digests_tell_jobs_and_folders_apart(tmp_path, monkeypatch):
  job = make()
  assert job.digest == dataclasses.replace(job, name='other').digest
  assert job.digest != make(*ARGS, '--config.seed=1').digest
  assert job.digest != make(env=['A=b']).digest
  monkeypatch.chdir(tmp_path)
  (tmp_path / 'link').symlink_to(tmp_path / 'run')
  same = {
    make(ARGS[0], f'--workdir={path}').folder_digest
    for path in ('run', './run/', f'{tmp_path}/run', 'link')
  }
  assert len(same) == 1
  assert make().folder_digest == make(ARGS[0], f'{ARGS[1]}/').folder_digest
  assert make().folder_digest not in same
