"""The one process that asks Optuna for trials, runs them, and tells it.

All that it knows is in the study: killed at any moment and started again, it
goes on. A trial that was running is launched again with its values, and its
training goes on from its workdir.
"""

from collections.abc import Callable, Mapping
import math
import time
from typing import Any

from absl import logging
import optuna

from launch.sweeps import sweep_file
from launch.sweeps import trials

State = optuna.trial.TrialState

# Names of a trial's attributes in the study.
SCORES = 'scores'  # Of the seeds that are done.
SECONDS = 'seconds'  # Of all its jobs.
MEMORY = 'peak_memory_gb'
FAILURE = 'failure'
REASON = 'reason'

MakeJob = Callable[[trials.JobSpec], trials.Job]
MakeSpec = Callable[[Mapping[str, Any], int, int], trials.JobSpec]


class Controller:
  """Runs the trials of a study, several at a time."""

  def __init__(
    self,
    study: optuna.Study,
    sweep: sweep_file.Sweep,
    *,
    make_spec: MakeSpec,
    parallel: int = 1,
    make_job: MakeJob = trials.Job,
    on_change: Callable[[], None] = lambda: None,
    sleep: Callable[[float], None] = time.sleep,
    poll_seconds: float = 2.0,
  ):
    """Makes a controller.

    Args:
      study: of `studies.open_study`.
      sweep: the same.
      make_spec: takes a trial's values, its number and a seed; gives the job.
      parallel: trials at a time.
      make_job: starts a job.
      on_change: called whenever a trial starts, evaluates or ends.
      sleep: waits for so many seconds.
      poll_seconds: between two looks at the jobs.
    """
    self._study = study
    self._sweep = sweep
    self._make_spec = make_spec
    self._parallel = parallel
    self._make_job = make_job
    self._on_change = on_change
    self._sleep = sleep
    self._poll_seconds = poll_seconds
    self._active: list[_RunningTrial] = []

  def run(self) -> None:
    """Runs until all trials have ended."""
    interrupted = [t for t in self._study.trials if t.state == State.RUNNING]
    for frozen in interrupted:
      logging.info('Trial %d was running; going on with it.', frozen.number)
    try:
      while True:
        while len(self._active) < self._parallel:
          if interrupted:
            frozen = interrupted.pop(0)
            # Optuna has no public way to take up a trial again.
            trial = optuna.Trial(self._study, frozen._trial_id)
          elif self._has_more():
            trial = self._study.ask()
          else:
            break
          self._start(trial)
          self._on_change()
        if not self._active:
          return
        self._sleep(self._poll_seconds)
        for one in list(self._active):
          self._advance(one)
    except BaseException:
      self.stop()
      raise

  def stop(self) -> None:
    """Asks the jobs that run to save and end, and waits; they can go on."""
    for one in self._active:
      one.job.stop()
    for one in self._active:
      one.job.wait()
      one.keep_seconds()

  def _has_more(self) -> bool:
    states = [trial.state for trial in self._study.trials]
    begun = sum(state != State.WAITING for state in states)
    return begun < self._sweep.num_trials

  def _start(self, trial: optuna.Trial) -> None:
    """Starts a trial's next job; tells its score where all seeds are done."""
    chosen = self._sweep.suggest(trial)
    scores = list(trial.user_attrs.get(SCORES, []))
    if len(scores) == len(self._sweep.seeds):
      self._tell_score(trial, scores)
      return
    seed = self._sweep.seeds[len(scores)]
    spec = self._make_spec(chosen, trial.number, seed)
    logging.info('Trial %d, seed %d: %s', trial.number, seed, chosen)
    self._active.append(
      _RunningTrial(trial, chosen, scores, self._make_job(spec))
    )

  def _advance(self, one: '_RunningTrial') -> None:
    """Looks after a trial; one that has ended is active no more."""
    # Asked first: what a job wrote before it ended is then all there.
    has_ended = one.job.poll() is not None
    progress = trials.read_progress(one.job.spec.workdir, self._sweep.objective)
    is_news = one.report(progress)
    if is_news:
      self._on_change()
    if not has_ended:
      if is_news and not one.scores and one.trial.should_prune():
        self._prune(one, progress)
      return
    one.keep_seconds()
    failure = one.job.failure()
    if failure is not None and failure.kind == trials.BUSY:
      # The launcher that a killed controller left behind ends in its time.
      logging.info('Trial %d: %s; waiting.', one.trial.number, failure.reason)
      one.begin(self._make_job(one.job.spec))
      return
    if failure is None and not progress.values:
      objective = self._sweep.objective
      failure = trials.Failure(
        trials.CRASH,
        f'the training ended without {objective.metric} of the split'
        f' {objective.split}',
      )
    if failure is not None:
      self._fail(one, failure)
    else:
      self._finish_seed(one, progress)

  def _finish_seed(self, one, progress):
    one.scores.append(self._sweep.objective.best(progress.values))
    one.trial.set_user_attr(SCORES, one.scores)
    if len(one.scores) < len(self._sweep.seeds):
      seed = self._sweep.seeds[len(one.scores)]
      spec = self._make_spec(one.chosen, one.trial.number, seed)
      one.begin(self._make_job(spec))
      return
    self._active.remove(one)
    self._tell_score(one.trial, one.scores)
    self._on_change()

  def _tell_score(self, trial, scores):
    score = sum(scores) / len(scores)
    self._study.tell(trial, score)
    logging.info('Trial %d: %.4f', trial.number, score)

  def _prune(self, one, progress):
    one.job.stop()
    one.job.wait()
    one.keep_seconds()
    self._active.remove(one)
    self._study.tell(one.trial, state=State.PRUNED)
    logging.info(
      'Trial %d: stopped after %d evaluations, others do better.',
      one.trial.number,
      len(progress.values),
    )
    self._on_change()

  def _fail(self, one, failure):
    one.trial.set_user_attr(FAILURE, failure.kind)
    one.trial.set_user_attr(REASON, failure.reason)
    self._active.remove(one)
    self._study.tell(one.trial, state=State.FAIL)
    logging.warning(
      'Trial %d failed, %s: %s\n  Its output: %s',
      one.trial.number,
      failure.kind,
      failure.reason,
      one.job.spec.log,
    )
    self._on_change()


class _RunningTrial:
  """A trial with its job."""

  def __init__(self, trial, chosen, scores, job):
    self.trial = trial
    self.chosen = chosen
    self.scores = scores
    self._reported = set(trial.study.trials[trial.number].intermediate_values)
    self.begin(job)

  def begin(self, job: trials.Job) -> None:
    self.job = job
    self._num_seen = 0
    self._seconds_before = self.trial.user_attrs.get(SECONDS, 0.0)

  def report(self, progress: trials.Progress) -> bool:
    """Passes on new evaluations; the first seed's are compared by Optuna."""
    is_news = len(progress.values) > self._num_seen
    self._num_seen = len(progress.values)
    if not self.scores:
      for step, value in enumerate(progress.values, start=1):
        if step not in self._reported:
          self.trial.report(value, step)
          self._reported.add(step)
    if is_news and not math.isnan(progress.peak_memory_gb):
      before = self.trial.user_attrs.get(MEMORY, 0.0)
      self.trial.set_user_attr(MEMORY, max(before, progress.peak_memory_gb))
    return is_news

  def keep_seconds(self) -> None:
    """Adds up the time of the job that has ended."""
    seconds = self._seconds_before + self.job.seconds
    self.trial.set_user_attr(SECONDS, seconds)
