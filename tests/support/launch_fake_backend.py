"""A backend that plays what it is told, and time that does not pass."""

import io

from genre_flax.runtime import errors
from launch.jobs import job as job_lib
from launch.jobs import restarts
from launch.jobs import supervisor
from launch.jobs.backends import base
from launch.runtime import stop_request

State = base.State
ARGS = ('--config=configs/tpu_pod.py', '--workdir=gs://bucket/run')
JOB = job_lib.Job('posters', 'train', ARGS)
ABSENT = base.Observation(State.ABSENT)
WAITING = base.Observation(State.WAITING, digest=JOB.digest)
READY = base.Observation(State.READY)
PREEMPTED = base.Observation(State.PREEMPTED, detail='SUSPENDED')
UNKNOWN = base.Observation(State.UNKNOWN)


def running(*statuses, log='step\n'):
  return base.Observation(
    State.RUNNING, statuses or (None,), log=log, digest=JOB.digest
  )


def ended(*statuses):
  return base.Observation(State.ENDED, statuses, digest=JOB.digest)


class FakeBackend(base.Backend):
  """Plays a list of observations; the last one lasts."""

  POLL_SECONDS = 10.0

  def __init__(self, *observations):
    super().__init__(JOB)
    self.observations = list(observations)
    self.calls = []
    self.writer = None

  def plan(self):
    return []

  def observe(self):
    if len(self.observations) > 1:
      return self.observations.pop(0)
    return self.observations[0]

  def other_writer(self):
    return self.writer

  def create(self):
    self.calls.append('create')

  def start(self):
    self.calls.append('start')

  def stop(self, *, kill=False):
    self.calls.append('kill' if kill else 'stop')

  def clear(self):
    self.calls.append('clear')

  def delete(self):
    self.calls.append('delete')

  def delete_command(self):
    return ('delete-it', 'a b')


class Clock:
  """Time that passes by sleeping alone."""

  def __init__(self):
    self.now = 0.0
    self.sleeps = []
    self.at = {}

  def __call__(self):
    return self.now

  def sleep(self, seconds):
    self.sleeps.append(seconds)
    self.now += seconds
    for moment in [m for m in self.at if m <= self.now]:
      self.at.pop(moment)()


def follow(
  backend, *, clock=None, keep=False, stop=None, output=None, **limits
):
  """Supervises a backend; returns the exit status and the output."""
  clock, output = clock or Clock(), output or io.StringIO()
  status = supervisor.Supervisor(
    backend,
    restarts.Limits(**limits),
    keep=keep,
    output=output,
    stop=stop or stop_request.StopRequest(),
    clock=clock,
    sleep=clock.sleep,
  ).run()
  written = output.getvalue() if isinstance(output, io.StringIO) else ''
  return status, written


def supervise(*observations, clock=None, **options):
  """Supervises what the observations play; returns all there is to see."""
  backend, clock = FakeBackend(*observations), clock or Clock()
  status, output = follow(backend, clock=clock, **options)
  return status, backend.calls, output, clock


class Refusing(FakeBackend):
  """Fails in `create` and `start` as often as told."""

  def __init__(self, *observations, create=0, start=0):
    super().__init__(*observations)
    self.failures = {'create': create, 'start': start}

  def fail(self, what):
    self.calls.append(what)
    self.failures[what] -= 1
    if self.failures[what] >= 0:
      raise errors.ResourceError(f'no {what}')

  def create(self):
    self.fail('create')

  def start(self):
    self.fail('start')
