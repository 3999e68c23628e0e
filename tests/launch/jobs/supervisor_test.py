import dataclasses
import sys

import pytest

from genre_flax.runtime import errors
from launch.jobs.backends import base
from launch.runtime import stop_request
from tests.support.launch_fake_backend import ABSENT
from tests.support.launch_fake_backend import Clock
from tests.support.launch_fake_backend import ended
from tests.support.launch_fake_backend import FakeBackend
from tests.support.launch_fake_backend import follow
from tests.support.launch_fake_backend import PREEMPTED
from tests.support.launch_fake_backend import READY
from tests.support.launch_fake_backend import Refusing
from tests.support.launch_fake_backend import running
from tests.support.launch_fake_backend import State
from tests.support.launch_fake_backend import supervise
from tests.support.launch_fake_backend import UNKNOWN
from tests.support.launch_fake_backend import WAITING


def test_from_nothing_to_success():
  status, calls, output, _ = supervise(
    ABSENT, ABSENT, WAITING, READY, running(), running(), ended(0, 0)
  )
  assert status == 0
  assert calls == ['create', 'start', 'delete']
  assert output.count('step\n') == 2


def test_machines_are_kept_where_asked():
  status, calls, output, _ = supervise(READY, READY, ended(0), keep=True)
  assert (status, calls) == (0, ['start'])
  assert "delete-it 'a b'" in output


def test_bad_input_is_not_tried_again():
  # Process 1 was aborted because process 0 went away.
  status, calls, output, _ = supervise(READY, READY, running(), ended(2, 134))
  assert (status, calls) == (2, ['start', 'delete'])
  assert 'refused its input with exit status 2' in output


def test_a_preempted_job_gets_machines_again_and_goes_on():
  status, calls, output, _ = supervise(
    *(ABSENT, ABSENT, READY, running(), PREEMPTED),
    *(PREEMPTED, ABSENT, WAITING, READY, running(), ended(0)),
  )
  assert status == 0
  assert calls == ['create', 'start', 'clear', 'create', 'start', 'delete']
  assert 'was preempted (SUSPENDED)' in output


@pytest.mark.parametrize('status', [130, 143])
def test_a_binary_that_saved_unasked_was_preempted(status):
  result, calls, output, _ = supervise(
    READY, READY, running(), ended(status, 143), READY, READY, ended(0, 0)
  )
  assert result == 0
  assert 'was preempted' in output


def test_preempted_too_often_has_a_status_of_its_own():
  status, calls, _, _ = supervise(PREEMPTED, max_restarts=2)
  assert status == 75
  # What an earlier launch left is cleared first, and counts for nothing.
  assert calls == ['clear', 'clear', 'clear', 'delete']


def test_crashes_are_capped_by_their_own_limit_and_give_the_binarys_status():
  status, calls, output, _ = supervise(
    READY, ended(None, 1), max_restarts=20, max_crashes=3
  )
  assert status == 1
  assert calls == ['clear'] * 3 + ['delete']
  assert 'crashed with exit status 1' in output
  assert 'Giving up after 3 restart(s)' in output


def test_restarts_back_off_up_to_a_cap():
  _, _, _, clock = supervise(READY, ended(1), max_restarts=9, max_crashes=9)
  assert clock.sleeps == [15, 30, 60, 120, 240, 480, 600, 600, 600]


def test_backing_off_begins_anew_after_a_long_attempt():
  _, _, _, clock = supervise(
    *(READY, ended(1), ended(1)),  # The second is what `_restart` looks at.
    *(READY, *[running()] * 180, ended(1), ended(1), READY, ended(0)),
    backoff_seconds=1.0,
  )
  assert [s for s in clock.sleeps if s != 10.0] == [1.0, 1.0]


def test_silence_is_a_hang_and_processes_are_killed_before_a_restart():
  silent = running(log='')
  status, calls, output, clock = supervise(
    *(READY, READY, running(), *[silent] * 6, silent),
    *(READY, ended(0)),
    hang_seconds=60,
  )
  assert status == 0
  assert calls == ['start', 'kill', 'clear', 'start', 'delete']
  assert 'hung' in output


def test_hung_too_often_has_a_status_of_its_own():
  status, calls, _, _ = supervise(
    running(log=''), hang_seconds=60, max_crashes=0
  )
  assert (status, calls) == (124, ['delete'])


def test_waiting_for_machines_is_no_hang():
  status, _, _, clock = supervise(
    ABSENT, *[WAITING] * 50, READY, ended(0), hang_seconds=60
  )
  assert status == 0
  assert clock.now > 60


def test_a_machine_that_does_not_answer_is_asked_again():
  status, calls, _, _ = supervise(READY, READY, running(), UNKNOWN, ended(0))
  assert (status, calls) == (0, ['start', 'delete'])


def test_processes_left_over_by_a_crash_are_not_waited_for_forever():
  status, calls, _, clock = supervise(
    READY, READY, *[running(None, 1)] * 14, READY, ended(0, 0)
  )
  assert status == 0
  assert calls == ['start', 'kill', 'clear', 'start', 'delete']
  # Two minutes, then the back-off.
  assert clock.now == pytest.approx(10 + 120 + 15 + 10)


def test_machines_that_cannot_be_had_end_it_with_the_providers_words():
  failed = base.Observation(State.FAILED, detail='FAILED: no quota for v6e')
  with pytest.raises(errors.ResourceError, match='no quota for v6e'):
    supervise(ABSENT, ABSENT, failed)


def test_a_set_up_that_fails_is_tried_again_and_capped():
  backend = Refusing(READY, READY, READY, READY, ended(0), start=1)
  status, output = follow(backend)
  assert status == 0
  assert backend.calls == ['start', 'clear', 'start', 'delete']
  assert 'could not be started (no start)' in output
  backend = Refusing(READY, start=9)
  assert follow(backend, max_crashes=1)[0] == 69
  assert backend.calls == ['start', 'clear', 'start', 'delete']


def test_an_attempt_that_cannot_be_cleared_leaves_a_way_to_delete(capsys):
  class Stuck(FakeBackend):
    def clear(self):
      raise errors.ResourceError('no network')

  with pytest.raises(errors.ResourceError, match='no network'):
    follow(Stuck(READY, ended(1)), output=sys.stdout)
  assert "left. Delete with:\n  delete-it 'a b'" in capsys.readouterr().out


def test_machines_that_are_refused_at_first_end_it_and_later_do_not():
  with pytest.raises(errors.ResourceError, match='no create'):
    follow(Refusing(ABSENT, create=1))
  backend = Refusing(
    *(READY, READY, PREEMPTED, PREEMPTED, ABSENT, ABSENT),
    *(ABSENT, READY, ended(0)),
    create=1,
  )
  status, output = follow(backend, max_crashes=0)
  assert status == 0, output
  assert 'got no machines (no create)' in output


def test_nothing_is_started_where_it_is_not_known_what_runs():
  lost = base.Observation(State.UNKNOWN, detail='no network')
  with pytest.raises(errors.ResourceError, match='asked: no network'):
    supervise(lost)


def test_a_job_that_runs_already_is_followed():
  status, calls, output, _ = supervise(running(log='old\n'), ended(0))
  assert (status, calls) == (0, ['delete'])
  assert 'following it' in output
  assert output.count('old\n') == 1


def test_another_job_under_the_name_is_refused():
  other = base.Observation(State.RUNNING, (None,), digest='another')
  with pytest.raises(errors.InputError, match="delete-it 'a b'"):
    supervise(other)


def test_a_name_is_free_again_where_its_job_ended_and_left_no_machines():
  over = dataclasses.replace(ended(0), digest='another')
  with pytest.raises(errors.InputError, match='in use by a job with other'):
    supervise(over)  # Its machines are still there.

  class Local(FakeBackend):
    def delete_command(self):
      return ()

  backend = Local(over, READY, running(), ended(0))
  status, _ = follow(backend)
  assert status == 0
  assert backend.calls[:2] == ['clear', 'start']


def test_another_writer_of_the_folder_is_refused():
  backend = FakeBackend(ABSENT, ended(0))
  backend.writer = 'first'
  with pytest.raises(errors.InputError, match='first writes gs://bucket/run'):
    follow(backend)
  assert backend.calls == []


def stop_at(*moments):
  clock, stop = Clock(), stop_request.StopRequest()

  def ask():
    stop.count += 1

  clock.at = {moment: ask for moment in moments}
  return {'clock': clock, 'stop': stop}


def test_a_stop_lets_the_job_save_and_gives_the_machines_back():
  status, calls, output, _ = supervise(
    READY, READY, *[running()] * 4, ended(143), **stop_at(20)
  )
  assert status == 130
  assert calls == ['start', 'stop', 'delete']
  assert 'Restart' not in output


def test_a_second_stop_leaves_the_job_and_says_how_to_delete_it():
  status, calls, output, _ = supervise(running(), **stop_at(20, 30))
  assert status == 130
  assert calls == ['stop']
  assert "Delete with:\n  delete-it 'a b'" in output


def test_a_job_that_does_not_stop_in_time_is_killed():
  status, calls, _, clock = supervise(
    running(), grace_seconds=40, **stop_at(20)
  )
  assert (status, calls) == (130, ['stop', 'kill', 'delete'])
  assert clock.now == pytest.approx(60)


def test_a_stop_during_the_back_off_starts_nothing():
  status, calls, _, _ = supervise(READY, READY, ended(1), **stop_at(20))
  assert (status, calls) == (130, ['start', 'delete'])


def test_machines_that_cannot_be_deleted_do_not_change_the_status():
  class Stuck(FakeBackend):
    def delete(self):
      raise errors.ResourceError('gcloud said: no')

  status, output = follow(Stuck(READY, ended(0)))
  assert status == 0
  assert "Delete with:\n  delete-it 'a b'" in output
