"""Tests of the study that workers share, with Optuna's own storages."""

from concurrent import futures
import multiprocessing
import os
import pathlib
import time

from etils import epath
import optuna
import pytest

from genre_flax.runtime import errors
from launch.sweeps import studies
from tests.launch.sweeps import sweep_file_test

pytestmark = pytest.mark.filterwarnings(
  'ignore::optuna.exceptions.ExperimentalWarning'
)
State = studies.State


def random_sweep(folder, num_trials=6, sampler='random'):
  return sweep_file_test.read(
    pathlib.Path(folder),
    sweep_file_test.RATES,
    sampler=sampler,
    num_trials=num_trials,
  )


def open_study(folder, sweep, **options):
  return studies.open_study(sweep, epath.Path(folder), **options)


def take(study, sweep):
  """Takes a trial; its number and its flag."""
  trial = studies.take(study, sweep)
  return trial, sweep.trial_flags(trial)[-1]


def take_all(folder, seed):
  """A worker in a process: takes trials and tells a score."""
  del seed
  sweep = random_sweep(folder, 40)
  study, numbers = open_study(folder, sweep), []
  while (trial := studies.take(study, sweep)) is not None:
    sweep.trial_flags(trial)
    numbers.append(trial.number)
    study.tell(trial, 0.5)
  return numbers


def test_workers_take_every_trial_once(tmp_path):
  context = multiprocessing.get_context('spawn')
  with futures.ProcessPoolExecutor(4, mp_context=context) as pool:
    taken = list(pool.map(take_all, [str(tmp_path)] * 4, range(4)))
  assert sorted(n for numbers in taken for n in numbers) == list(range(40))


@pytest.mark.parametrize('sampler', ['random', 'tpe'])
def test_proposals_depend_on_the_number_and_not_on_restarts(tmp_path, sampler):
  sweep = random_sweep(tmp_path, 14, sampler)

  def run(folder, restart_at=()):
    folder.mkdir()
    study, proposed = open_study(folder, sweep), []
    for number in range(14):
      if number in restart_at:
        study = open_study(folder, sweep)
      trial, flag = take(study, sweep)
      proposed.append(flag)
      if number in restart_at:  # Interrupted, and run by another worker.
        studies.finish(trial, State.WAITING)
        study = open_study(folder, sweep)
        trial, flag = take(study, sweep)
        assert flag == proposed[-1]
        assert studies.original_number(studies.frozen(trial)) == number
      study.tell(trial, float(flag.split('=')[1]))
    assert studies.take(study, sweep) is None
    return proposed

  uninterrupted = run(tmp_path / 'a')
  assert len(set(uninterrupted)) == 14
  assert run(tmp_path / 'b', restart_at=(1, 4, 12)) == uninterrupted


@pytest.mark.parametrize('storage', ['journal', 'database'])
def test_the_trial_of_a_dead_worker_is_queued_again(tmp_path, storage):
  url = f'sqlite:///{tmp_path}/study.db' if storage == 'database' else None
  sweep = random_sweep(tmp_path, 2)
  options = {'storage_url': url, 'heartbeat_seconds': 1}
  study = open_study(tmp_path, sweep, **options)
  dead, flag = take(study, sweep)
  alive, _ = take(study, sweep)
  dead.report(0.25, 1)
  other = open_study(tmp_path, sweep, **options)
  end = time.monotonic() + 30
  with studies.heartbeat(alive):
    while not (waiting := other.get_trials(states=(State.WAITING,))):
      optuna.storages.fail_stale_trials(other)
      time.sleep(0.2)
      assert time.monotonic() < end
  assert len(waiting) == 1
  trial, again = take(other, sweep)
  assert (studies.original_number(studies.frozen(trial)), again) == (
    dead.number,
    flag,
  )
  assert other.trials[trial.number].intermediate_values == {1: 0.25}
  with pytest.raises(optuna.exceptions.UpdateFinishedTrialError):
    dead.report(0.5, 2)
  for state in (State.COMPLETE, State.PRUNED, State.FAIL, State.WAITING):
    with pytest.raises(optuna.exceptions.UpdateFinishedTrialError):
      studies.finish(dead, state, 0.5 if state == State.COMPLETE else None)
  other.tell(trial, 0.5)
  study.tell(alive, 0.25)
  states = [t.state for t in studies.latest_attempts(other)]
  assert states == [State.COMPLETE] * 2


def test_the_clock_of_the_file_system_decides(tmp_path, monkeypatch):
  sweep = random_sweep(tmp_path, 1)
  study = open_study(tmp_path, sweep)
  trial, _ = take(study, sweep)
  monkeypatch.setattr(time, 'time', lambda: 1e12)
  optuna.storages.fail_stale_trials(study)
  assert study.trials[0].state == State.RUNNING
  os.utime(tmp_path / 'heartbeats' / str(trial._trial_id), (1, 1))
  optuna.storages.fail_stale_trials(study)
  assert [t.state for t in study.trials] == [State.FAIL, State.WAITING]


def test_a_study_continues_with_more_trials_of_the_same_sweep(tmp_path):
  sweep, more = (random_sweep(tmp_path, number) for number in (2, 4))
  study = open_study(tmp_path, sweep)
  trial, first = take(study, sweep)
  study.tell(trial, 0.5)
  study = open_study(tmp_path, more)
  assert len(study.trials) == 4
  assert len({first, *(take(study, more)[1] for _ in range(3))}) == 4
  with pytest.raises(errors.InputError) as error:
    open_study(tmp_path, random_sweep(tmp_path, 2, 'tpe'))
  assert "'sampler': ('random', 'tpe')" in str(error.value)
  space = sweep_file_test.RATES.replace('1e-4', '1e-5')
  other = sweep_file_test.read(tmp_path, space, sampler='random', num_trials=2)
  with pytest.raises(errors.InputError, match='1e-5'):
    open_study(tmp_path, other)


def test_a_grid_that_was_queued_in_part_is_completed(tmp_path):
  sweep = sweep_file_test.read(tmp_path)
  study = open_study(tmp_path, sweep_file_test.read(tmp_path, num_trials=1))
  assert len(study.trials) == 1
  study = open_study(tmp_path, sweep)
  assert [take(study, sweep)[1] for _ in range(2)] == [
    '--config.image_size=96',
    '--config.image_size=128',
  ]
