"""Tests of a trial's jobs and of what is read of them."""

import math
import pathlib
import signal
import sys

import pytest

from configs.sweeps import image_size
from genre_flax.runtime import errors
from genre_flax.runtime import metric_writer
from launch.sweeps import sweep_file
from launch.sweeps import trials

OBJECTIVE = sweep_file.Objective('score', 'validation', 'maximize')


@pytest.mark.parametrize(
  ('status', 'output', 'expected'),
  [
    (
      2,
      'Some log\nerror: Invalid config:\n  config.batch_size=0: too small\n',
      ('bad config', 'error: Invalid config: config.batch_size=0: too small'),
    ),
    (2, 'a log\nUsage: this\n', ('bad config', 'Usage: this')),
    (
      1,
      'Traceback (most recent call last):\njaxlib.XlaRuntimeError:'
      ' RESOURCE_EXHAUSTED: Out of memory.\nBye\n',
      ('out of memory', 'jaxlib.XlaRuntimeError: RESOURCE_EXHAUSTED: Out of'),
    ),
    (-6, 'what():  std::bad_alloc\n', ('out of memory', 'what():  std::bad')),
    (137, 'step 20\n', ('out of memory', 'killed by SIGKILL, as a system')),
    (-signal.SIGKILL, '', ('out of memory', 'killed by SIGKILL, as a system')),
    (
      1,
      'Traceback\nNonFiniteError: nan.\n\n',
      ('crash', 'NonFiniteError: nan.'),
    ),
    (3, '', ('crash', 'exit status 3')),
  ],
)
def test_three_kinds_of_failure_are_told_apart(status, output, expected):
  failure = trials.classify(status, output)
  assert failure.kind == expected[0]
  assert failure.reason.startswith(expected[1])


def test_a_busy_job_is_told_apart():
  assert trials.classify(73, 'error: x').kind == trials.BUSY


def test_where_no_machines_can_be_had_no_trial_is_to_blame():
  with pytest.raises(errors.ResourceError, match='no quota for v5e'):
    trials.classify(69, 'error: no quota for v5e')


def test_status_0_is_no_failure():
  assert trials.classify(0, 'error: out of memory') is None


def write_metrics(workdir, *lines):
  metric_writer.write(workdir, lines)
  with open(pathlib.Path(workdir) / metric_writer.FILE_NAME, 'a') as file:
    file.write('{"step": 9, ')  # Cut off, where a run was killed.


def test_progress_is_the_objective_of_each_evaluation(tmp_path):
  write_metrics(
    tmp_path,
    {'step': 1, 'split': 'train', 'score': 9.0, 'peak_memory_gb': 1.5},
    {'step': 1, 'split': 'validation', 'score': 0.1},
    {'step': 2, 'split': 'train', 'peak_memory_gb': 2.5},
    {'step': 2, 'split': 'validation', 'score': None},
    {'step': 3, 'split': 'validation', 'score': 0.3},
  )
  progress = trials.read_progress(str(tmp_path), OBJECTIVE)
  assert progress == trials.Progress((0.1, 0.3), 2.5)


def test_no_file_is_no_progress_yet(tmp_path):
  progress = trials.read_progress(str(tmp_path / 'none'), OBJECTIVE)
  assert progress.values == ()
  assert math.isnan(progress.peak_memory_gb)


def test_the_job_of_a_trial_has_its_flags_in_order(tmp_path):
  config = image_size.get_config()
  config.flags = ('--config.num_epochs=3.0',)
  spec = trials.job_spec(
    sweep_file.read_sweep(config),
    {'image_size': 128, 'model.tiny.features': (4, 8)},
    number=7,
    seed=2,
    sweep_name='sizes',
    sweep_dir=tmp_path,
    workdir_root='gs://bucket/sizes',
    launcher=('python', '-m', 'launch.run', '--backend=local'),
    extra_flags=('--config.dataset.data_dir=my data',),
  )
  assert spec.workdir == 'gs://bucket/sizes/trial_0007/seed_2'
  assert spec.log == tmp_path / 'logs' / 'sizes-0007-2.log'
  assert spec.argv == (
    *('python', '-m', 'launch.run', '--backend=local', '--name=sizes-0007-2'),
    '--',
    '--config=configs/poster_cnn.py',
    '--config.num_epochs=3.0',
    '--config.dataset.data_dir=my data',
    '--config.image_size=128',
    '--config.model.tiny.features=(4, 8)',
    '--config.seed=2',
    '--workdir=gs://bucket/sizes/trial_0007/seed_2',
  )


def start(tmp_path, program, *arguments):
  spec = trials.JobSpec(
    name='job',
    argv=(sys.executable, '-c', program, *arguments),
    workdir=str(tmp_path),
    log=tmp_path / 'logs' / 'job.log',
  )
  return trials.Job(spec, clock=iter([10.0, 14.5]).__next__)


def test_a_job_keeps_its_output_and_its_time(tmp_path):
  job = start(tmp_path, 'print("hello")')
  assert job.failure() is None
  assert job.poll() == 0
  assert job.seconds == 4.5
  assert job.spec.log.read_text() == 'hello\n'


def test_a_failure_is_told_by_the_output_of_the_last_start(tmp_path):
  log = tmp_path / 'logs' / 'job.log'
  log.parent.mkdir()
  log.write_text('MemoryError of an earlier start\n')
  job = start(tmp_path, 'import sys; sys.exit("error: no such thing")')
  failure = job.failure()
  assert (failure.kind, failure.reason) == ('crash', 'error: no such thing')
  assert 'earlier start' in log.read_text()


def test_a_job_that_is_stopped_may_end_well(tmp_path):
  program = (
    'import signal, sys\n'
    'signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))\n'
    'open(sys.argv[1], "w").close()\n'
    'signal.pause()\n'
  )
  ready = tmp_path / 'ready'
  job = start(tmp_path, program, str(ready))
  while not ready.exists():
    assert job.poll() is None
  job.stop()
  assert job.wait(timeout=60) == 143
  job.stop()  # It has ended: nothing is signalled.
