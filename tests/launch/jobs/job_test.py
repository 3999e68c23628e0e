import dataclasses
import subprocess
import sys

import pytest

from launch.jobs import job as job_lib
from launch.jobs import slices
from launch.runtime import command
from launch.runtime import errors

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


def test_distributed_is_not_given_twice():
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


@pytest.mark.parametrize(
  ('args', 'message'),
  [
    ((ARGS[0], '--workdir=run'), '--workdir=run is a path of this machine'),
    ((*ARGS, '--config.dataset.data_dir=data'), 'data_dir=data is a path'),
    (('--config=mine.py', ARGS[1]), 'does not travel'),
    (('--config=/x/configs/mine.py', ARGS[1]), 'does not travel'),
  ],
)
def test_paths_of_this_machine_do_not_travel(args, message):
  with pytest.raises(errors.InputError, match=message):
    job_lib.check_travels(make(*args))


def test_paths_that_travel():
  job_lib.check_travels(make())
  job_lib.check_travels(make('--config=./configs/a.py:x', ARGS[1]))
  job_lib.check_travels(make(ARGS[0], '--workdir=/nfs'), schemes=('gs://', '/'))


# Chips, hosts and topologies as Google's tables of each generation have them.
@pytest.mark.parametrize(
  ('name', 'num_chips', 'num_hosts', 'topology'),
  [
    ('v2-8', 4, 1, '2x2'),
    ('v3-32', 16, 4, '4x4'),
    ('v4-8', 4, 1, '2x2x1'),
    ('v4-32', 16, 4, '2x2x4'),
    ('v5litepod-1', 1, 1, '1x1'),
    ('v5litepod-8', 8, 1, '2x4'),
    ('v5litepod-16', 16, 4, '4x4'),
    ('v5litepod-256', 256, 64, '16x16'),
    ('v5p-8', 4, 1, '2x2x1'),
    ('v5p-128', 64, 16, '4x4x4'),
    ('v6e-4', 4, 1, '2x2'),
    ('v6e-64', 64, 16, '8x8'),
  ],
)
def test_slice_types(name, num_chips, num_hosts, topology):
  found = slices.parse(name)
  assert (found.num_chips, found.num_hosts) == (num_chips, num_hosts)
  assert found.topology == topology
  assert found.chips_per_host * num_hosts == num_chips


@pytest.mark.parametrize(
  ('name', 'message'),
  [
    ('v9-8', 'not known'),
    ('v4', 'not known'),
    ('v4-12', 'not a size of v4; there are v4-8, v4-16'),
    ('v5litepod-2', 'there are v5litepod-1, v5litepod-4, v5litepod-8'),
  ],
)
def test_slice_types_that_are_none(name, message):
  with pytest.raises(errors.InputError, match=message):
    slices.parse(name)


HARD = ('a b', "it's", '"x"', '$HOME', '`id`', '*', '', '\\', "--f=('a', 1)\n!")


def test_a_quoted_command_gives_a_shell_the_very_arguments():
  show = [sys.executable, '-c', 'import sys; print(sys.argv[1:])', *HARD]
  done = subprocess.run(
    ['bash', '-c', command.quote(show)], capture_output=True, text=True
  )
  assert done.stdout.strip() == repr(list(HARD))


def test_a_missing_tool_and_a_failing_one_are_explained(monkeypatch, tmp_path):
  with pytest.raises(errors.ResourceError, match='status 3(.|\n)*no quota'):
    command.check(['bash', '-c', 'echo no quota >&2; exit 3'])
  monkeypatch.setenv('PATH', str(tmp_path))
  with pytest.raises(errors.ResourceError, match='Google Cloud CLI'):
    command.run(['gcloud', 'info'])


def test_a_command_that_does_not_end_is_ended():
  assert command.run(['sleep', '60'], timeout_seconds=0.1).exit_status == 124
