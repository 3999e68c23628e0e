"""Tests of running the trials of a study, with played jobs."""

import pathlib

import optuna
import pytest

from configs.sweeps import default
from genre_flax.runtime import metric_writer
from launch.sweeps import controller
from launch.sweeps import studies
from launch.sweeps import sweep_file
from launch.sweeps import trials

State = optuna.trial.TrialState
SIZES = (96, 128, 160)


def make_sweep(**changes):
  config = default.get_config()
  config.space = ({'key': 'image_size', 'values': SIZES},)
  config.update_from_flattened_dict(changes)
  return sweep_file.read_sweep(config)


class PlayedJob:
  """A job that writes one evaluation a poll, then ends."""

  seconds = 30.0

  def __init__(self, spec, values, failure=None):
    self.spec = spec
    self._values = list(values)
    self._failure = failure
    self._written = []
    self.is_stopped = False

  def poll(self):
    if self.is_stopped:
      return 143
    if not self._values:
      return 1 if self._failure else 0
    self._written.append(self._values.pop(0))
    folder = pathlib.Path(self.spec.workdir)
    folder.mkdir(parents=True, exist_ok=True)
    lines = [
      {'step': step, 'split': 'validation', 'mean_average_precision': value}
      for step, value in enumerate(self._written)
    ]
    lines.append({'step': 9, 'split': 'train', 'peak_memory_gb': 1.25})
    metric_writer.write(folder, lines)
    return None

  def stop(self):
    self.is_stopped = True

  def wait(self, timeout=None):
    del timeout
    return 0

  def failure(self):
    return self._failure


class World:
  """The jobs that are played: what each writes, by image size and seed."""

  def __init__(self, tmp_path, play):
    self._folder = tmp_path
    self._play = play
    self.started = []
    self.jobs = []
    self.most_at_once = 0

  def make_spec(self, chosen, number, seed):
    size = chosen['image_size']
    self.started.append((size, seed))
    return trials.JobSpec(
      name=f'{size}-{seed}',
      argv=(),
      workdir=str(self._folder / f'{number}-{seed}'),
      log=self._folder / 'log',
    )

  def make_job(self, spec):
    size, seed = map(int, spec.name.split('-'))
    job = self._play(spec, size, seed)
    self.jobs.append(job)
    return job

  def run(self, sweep, study, *, on_change=lambda: None, **options):
    def count_running():
      running = sum(t.state == State.RUNNING for t in study.trials)
      self.most_at_once = max(self.most_at_once, running)
      on_change()

    controller.Controller(
      study,
      sweep,
      make_spec=self.make_spec,
      make_job=self.make_job,
      on_change=count_running,
      sleep=lambda seconds: None,
      **options,
    ).run()


def open_study(sweep, storage=None):
  return studies.open_study(
    sweep, name='s', storage=storage or optuna.storages.InMemoryStorage()
  )


def run(tmp_path, play, *, parallel=1, **changes):
  """Runs a sweep; returns the study and the jobs."""
  sweep = make_sweep(**changes)
  study, world = open_study(sweep), World(tmp_path, play)
  world.run(sweep, study, parallel=parallel)
  return study, world


@pytest.mark.parametrize('parallel', [1, 2, 5])
def test_every_trial_gets_its_best_evaluation(tmp_path, parallel):
  study, world = run(
    tmp_path,
    lambda spec, size, seed: PlayedJob(spec, [size / 1000, size / 500, 0.01]),
    parallel=parallel,
  )
  scores = [trial.value for trial in study.trials]
  assert scores == [size / 500 for size in SIZES]
  assert world.started == [(size, 0) for size in SIZES]
  assert world.most_at_once == min(parallel, 3)
  first = study.trials[0]
  assert first.intermediate_values == {1: 0.096, 2: 0.192, 3: 0.01}
  assert first.user_attrs['seconds'] == 30.0
  assert first.user_attrs['peak_memory_gb'] == 1.25


def test_a_trial_is_the_mean_of_its_seeds(tmp_path):
  study, world = run(
    tmp_path,
    lambda spec, size, seed: PlayedJob(spec, [size + seed / 10]),
    seeds=(3, 5),
  )
  assert [trial.value for trial in study.trials] == pytest.approx(
    [size + 0.4 for size in SIZES]
  )
  assert world.started[:3] == [(96, 3), (96, 5), (128, 3)]
  assert study.trials[0].user_attrs['seconds'] == 60.0
  # Trials are compared by their first seed.
  assert study.trials[0].intermediate_values == {1: pytest.approx(96.3)}


def test_a_failed_trial_is_recorded_and_does_not_end_the_sweep(tmp_path):
  failure = trials.Failure(trials.OUT_OF_MEMORY, 'RESOURCE_EXHAUSTED')
  study, _ = run(
    tmp_path,
    lambda spec, size, seed: PlayedJob(
      spec, [0.5], failure if size == 128 else None
    ),
  )
  states = [trial.state for trial in study.trials]
  assert states == [State.COMPLETE, State.FAIL, State.COMPLETE]
  attributes = study.trials[1].user_attrs
  assert attributes['failure'] == 'out of memory'
  assert attributes['reason'] == 'RESOURCE_EXHAUSTED'


def test_a_training_without_the_metric_is_a_failure(tmp_path):
  changes = {'objective.split': 'dev'}
  study, _ = run(
    tmp_path, lambda spec, size, seed: PlayedJob(spec, [0.5]), **changes
  )
  assert {trial.state for trial in study.trials} == {State.FAIL}
  reason = study.trials[0].user_attrs['reason']
  assert 'ended without mean_average_precision of the split dev' in reason


def test_a_poor_trial_is_stopped_early(tmp_path):
  changes = {'name': 'asha', 'min_evaluations': 2, 'reduction_factor': 2}
  study, world = run(
    tmp_path,
    lambda spec, size, seed: PlayedJob(spec, [1 / size] * 8),
    **{f'pruner.{name}': value for name, value in changes.items()},
  )
  # Each is worse than the ones before: both are stopped at the first rung.
  states = [trial.state for trial in study.trials]
  assert states == [State.COMPLETE, State.PRUNED, State.PRUNED]
  assert len(study.trials[1].intermediate_values) == 2
  assert [job.is_stopped for job in world.jobs] == [False, True, True]
  assert study.trials[1].user_attrs['seconds'] == 30.0


def test_a_job_that_another_launcher_follows_is_waited_for(tmp_path):
  busy = trials.Failure(trials.BUSY, 'another launcher follows the job')
  plays = iter([([], busy), ([], busy), ([0.5], None), ([0.5], None)])
  study, world = run(
    tmp_path,
    lambda spec, size, seed: PlayedJob(spec, *next(plays, ([0.5], None))),
  )
  assert {trial.state for trial in study.trials} == {State.COMPLETE}
  assert world.started == [(size, 0) for size in SIZES]
  assert len(world.jobs) == 5


def test_a_killed_sweep_is_resumed(tmp_path):
  sweep = make_sweep(seeds=(0, 1))
  storage = optuna.storages.JournalStorage(
    optuna.storages.journal.JournalFileBackend(str(tmp_path / 'journal'))
  )
  study = open_study(sweep, storage)

  def die(spec, size, seed):
    if (size, seed) == (128, 1):
      raise KeyboardInterrupt
    return PlayedJob(spec, [size + seed])

  world = World(tmp_path, die)
  with pytest.raises(KeyboardInterrupt):
    world.run(sweep, study)
  states = [trial.state for trial in study.trials]
  assert states == [State.COMPLETE, State.RUNNING, State.WAITING]

  study = open_study(sweep, storage)
  world = World(
    tmp_path, lambda spec, size, seed: PlayedJob(spec, [size + seed])
  )
  world.run(sweep, study)
  # The second trial keeps its values and the seed that was done.
  assert world.started == [(128, 1), (160, 0), (160, 1)]
  assert [trial.value for trial in study.trials] == [96.5, 128.5, 160.5]


def test_a_trial_that_was_told_is_not_touched_when_the_sweep_stops(tmp_path):
  sweep = make_sweep()
  study = open_study(sweep)
  world = World(
    tmp_path, lambda spec, size, seed: PlayedJob(spec, [0.5] * (size // 96))
  )

  def stop_after_the_first():
    if study.trials[0].state == State.COMPLETE:
      raise KeyboardInterrupt

  with pytest.raises(KeyboardInterrupt):
    world.run(sweep, study, parallel=3, on_change=stop_after_the_first)
  assert [job.is_stopped for job in world.jobs] == [False, True, True]


def test_a_trial_whose_seeds_are_done_is_told(tmp_path):
  sweep = make_sweep()
  study = open_study(sweep)
  trial = study.ask()
  sweep.suggest(trial)
  trial.set_user_attr(controller.SCORES, [0.25])
  world = World(tmp_path, lambda spec, size, seed: PlayedJob(spec, [0.5]))
  world.run(sweep, study)
  assert [trial.value for trial in study.trials] == [0.25, 0.5, 0.5]
  assert world.started == [(size, 0) for size in SIZES[1:]]


def test_stopping_stops_the_jobs_that_run(tmp_path):
  sweep = make_sweep()
  study = open_study(sweep)
  world = World(tmp_path, lambda spec, size, seed: PlayedJob(spec, [0.5] * 9))

  def interrupt(seconds):
    del seconds
    raise KeyboardInterrupt

  run = controller.Controller(
    study,
    sweep,
    make_spec=world.make_spec,
    make_job=world.make_job,
    parallel=2,
    sleep=interrupt,
  )
  with pytest.raises(KeyboardInterrupt):
    run.run()
  assert [job.is_stopped for job in world.jobs] == [True, True]
  states = [trial.state for trial in study.trials]
  assert states == [State.RUNNING, State.RUNNING, State.WAITING]
