"""Jobs, and the check of their flags before they are submitted."""

import json
import sys

import pytest

from configs import quickstart
from genre_flax import config as config_lib
from genre_flax.runtime import errors
from launch import check
from launch import job as job_lib
from tests.launch import run_test
from tests.support import paths

QUICKSTART = ('--config=configs/quickstart.py', '--workdir=gs://bucket/run')
GS = (*QUICKSTART, '--config.dataset.synthetic_posters=0')
POD = '--config.dataset.data_dir=gs://bucket-of-nobody/data'


def make(*args, program='train', name='posters', **options):
  return job_lib.make(name, program, args=args, **options)


@pytest.mark.parametrize(
  ('text', 'num_devices'),
  [
    (None, 1),
    ('v5litepod-16', 16),
    ('tpu-v5litepod-16', 16),
    ('v5e:4x4', 16),
    ('tpu7x:2x2x1', 8),
    ('H100:8', 8),
    ('A100-80GB:4', 4),
    ('gpu', 1),
  ],
)
def test_accelerators(text, num_devices):
  accelerator = job_lib.parse_accelerators(text)
  assert make('--a', accelerator=accelerator).num_devices == num_devices


def test_nodes_and_slices_multiply_the_devices():
  gpus = job_lib.parse_accelerators('H100:8')
  assert make('--a', accelerator=gpus, num_nodes=2).num_devices == 16
  pod = job_lib.parse_accelerators('v5e:4x4')
  job = make('--a', accelerator=pod, num_slices=2)
  assert (job.num_devices, job.num_hosts) == (32, 8)


@pytest.mark.parametrize(
  ('options', 'message'),
  [
    ({'name': 'Posters'}, "--name='Posters' cannot name a job"),
    ({'name': 'posters-'}, 'cannot name a job'),
    ({'name': 'a' * 41}, 'cannot name a job'),
    ({'env': ['1=2']}, "--env='1=2' is not of the form NAME=VALUE"),
    ({'mounts': ['data=gs://b']}, "--mount='data=gs://b' is not of the form"),
    (
      {'program': 'sweep', 'num_nodes': 2},
      '--program=sweep runs on one machin',
    ),
  ],
)
def test_wrong_values_are_errors(options, message):
  with pytest.raises(errors.InputError, match=message):
    make('--config=a', **options)


@pytest.mark.parametrize(
  'text', ['v5litepod-7', 'tpu-v9-8', 'H100:0', '8xH100']
)
def test_unknown_accelerators_are_errors(text):
  with pytest.raises(errors.InputError):
    job_lib.parse_accelerators(text)


def test_program_is_named_in_one_error():
  with pytest.raises(errors.InputError, match="flags of the program 'train'"):
    make()


def checked(*args, accelerator='v5litepod-16', shares_files=False, **options):
  accelerator = job_lib.parse_accelerators(accelerator)
  job = make(*args, accelerator=accelerator, **options)
  return check.check(job, shares_files=shares_files)


@pytest.mark.parametrize(
  ('args', 'message'),
  [
    (
      (*QUICKSTART, '--config.batchsize=3'),
      'config.batchsize: .* config.batch_size',
    ),
    ((*QUICKSTART, '--config.batch_size=17'), 'is not a multiple of 16 device'),
    ((*QUICKSTART, '--config.batch_size=-1'), 'must be at least 1'),
    ((*QUICKSTART, '--workdri=x'), "'workdri'"),
    ((*QUICKSTART, '--config.model.name=cnn'), 'must be one of'),
    ((*QUICKSTART, 'stray'), r"Unexpected arguments: \['stray'\]"),
    (('--config=configs/quickstart.py',), '--workdir'),
    (('--config=configs/no.py', '--workdir=gs://b/r'), 'configs/no.py'),
    (('--workdir=gs://b/r',), '--config is missing'),
    (
      ('--config=configs/quickstart.py', '--workdir=/tmp/run'),
      '--workdir=/tmp/run is a folder of this machine',
    ),
    (
      (*GS, '--config.dataset.data_dir=data'),
      '--config.dataset.data_dir=data is a folder of this machine',
    ),
    (
      (*QUICKSTART, '--config.init_from=runs/a'),
      '--config.init_from=runs/a is',
    ),
    (
      (*QUICKSTART, '--config.loss.name=numpy:sum'),
      "the module 'numpy' in .* does not travel",
    ),
    (
      (*QUICKSTART, '--config.loss.name=nothing_here:loss'),
      "there is no module 'nothing_here'",
    ),
  ],
)
def test_wrong_flags_are_found_before_the_submission(args, message):
  with pytest.raises(errors.InputError, match=message):
    checked(*args)


def test_own_code_of_the_repository_travels():
  name = '--config.loss.name=examples.wide_net:loss'
  assert checked(*QUICKSTART, name) == []


@pytest.mark.slow
def test_unreachable_data_is_noted():
  [note] = checked(*GS, POD)
  assert note.startswith('--config.dataset.data_dir=gs://bucket-of-nobody/data')
  assert 'was not checked' in note


def test_mounts_are_folders_of_the_job():
  args = ('--config=configs/quickstart.py', '--workdir=/bucket/run')
  assert checked(*args, mounts=['/bucket=gs://bucket']) == []
  [note] = checked(
    *args,
    '--config.dataset.synthetic_posters=0',
    '--config.dataset.data_dir=/bucket/data',
    mounts=['/bucket=gs://bucket'],
  )
  assert 'is on a mount' in note


def test_a_bucket_may_be_mounted_as_the_dataset():
  args = ('--config.dataset.synthetic_posters=0', '--workdir=gs://b/r')
  [note] = checked(
    *('--config=configs/quickstart.py', *args),
    '--config.dataset.data_dir=/data',
    mounts=['/data=gs://bucket'],
  )
  assert '--config.dataset.data_dir=/data is on a mount' in note


def test_files_that_git_ignores_do_not_travel():
  assert check._travels(paths.ROOT / 'examples')
  assert check._travels(paths.ROOT / 'configs' / 'tpu_pod.py')
  ignored = paths.ROOT / '.git'
  assert ignored.exists()
  assert not check._travels(ignored)


def test_the_config_of_a_workdir_may_be_on_a_mount(tmp_path):
  config = json.dumps(config_lib.to_dict(quickstart.get_config()))
  (tmp_path / 'config.json').write_text(config)
  args = (f'--config={tmp_path}/config.json', '--workdir=gs://bucket/run')
  [note] = checked(*args, mounts=[f'{tmp_path}=gs://bucket'])
  assert 'is on a mount' in note
  with pytest.raises(errors.InputError, match='config.json does not travel'):
    checked(*args)


def test_shared_data_is_read(data_dir, tmp_path):
  local = {'accelerator': None, 'shares_files': True}
  args = (*run_test.TINY, f'--workdir={tmp_path}/run')
  data = f'--config.dataset.data_dir={data_dir}'
  assert checked(*args, data, **local) == []
  with pytest.raises(errors.InputError, match='no split .nothing.'):
    checked(*args, data, '--config.dataset.train_split=nothing', **local)
  with pytest.raises(errors.InputError, match='contains no prepared dataset'):
    checked(*args, f'--config.dataset.data_dir={tmp_path}', **local)
  with pytest.raises(errors.InputError, match='init_from=.*does not exist'):
    checked(*args, data, f'--config.init_from={tmp_path}/no', **local)
  too_large = ('--config.batch_size=4096', '--config.micro_batch_size=3')
  assert checked(*args, data, too_large[0], **local) == []
  with pytest.raises(errors.InputError, match='4096, lowered to 64,'):
    checked(*args, data, *too_large, **local)


def test_flags_of_other_programs_are_checked(tmp_path):
  with pytest.raises(errors.InputError, match='workdri'):
    checked('--workdri=a', program='top3', accelerator=None)
  local = {'accelerator': None, 'shares_files': True}
  with pytest.raises(errors.InputError, match='--csv=.*does not exist'):
    checked(
      *('--csv=none.csv', '--images=none', f'--data_dir={tmp_path}/new'),
      program='prepare',
      **local,
    )
  with pytest.raises(errors.InputError, match='--workdir=.*does not exist'):
    checked(f'--workdir={tmp_path}/none', 'a.jpg', program='top3', **local)


def test_a_command_has_the_flags_as_they_are():
  job = make('--a=b c', "--d='e'")
  assert job.command(sys.executable, detect=True) == [
    *(sys.executable, '-m', 'genre_flax.main', '--distributed'),
    *('--a=b c', "--d='e'"),
  ]
