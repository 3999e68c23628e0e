from concurrent import futures
import threading
import time

import pytest

from genre_flax.runtime import errors
from genre_flax.runtime import lease
from tests.support import cloud

PATH = 'gs://bucket/run/.lock'
SECONDS = 0.4


@pytest.fixture(autouse=True)
def storage(monkeypatch):
  return cloud.install(monkeypatch)


def hold(seconds=SECONDS):
  return lease.hold(PATH, 'held by {pid}', lease_seconds=seconds)


def numbers(storage):
  return [path.rpartition('/')[2] for path in storage.find('/bucket')]


def leave_a_lock():
  """A lock whose holder was killed."""
  dead = lease._Lease(PATH, '', seconds=SECONDS)
  dead.acquire()
  return dead


def test_a_renewed_lock_is_refused_and_a_released_one_is_free(storage):
  with hold():
    with pytest.raises(errors.BusyError, match=r'held by \d+ on '), hold():
      pass
    with pytest.raises(errors.BusyError), hold():
      pass
  with hold(seconds=3600):  # Without waiting.
    assert numbers(storage) == ['1']
  assert numbers(storage) == []


def test_the_lock_of_a_dead_program_expires(storage):
  leave_a_lock()
  started = time.monotonic()
  with hold():
    assert time.monotonic() - started >= SECONDS
    assert numbers(storage) == ['2']
  assert numbers(storage) == []


def test_one_of_several_programs_takes_an_expired_lock():
  leave_a_lock()
  release = threading.Event()

  def work(_):
    try:
      with hold():
        return release.wait(20)
    except errors.BusyError:
      return None

  with futures.ThreadPoolExecutor(4) as pool:
    results = [pool.submit(work, number) for number in range(4)]
    done = futures.wait(results, return_when=futures.FIRST_COMPLETED)[0]
    while len(done) < 3:
      time.sleep(0.05)
      done = [result for result in results if result.done()]
    release.set()
  assert sorted(str(r.result()) for r in results) == 3 * ['None'] + ['True']


def test_a_lock_that_was_renewed_meanwhile_is_left(storage, monkeypatch):
  dead = leave_a_lock()
  wait = lease._Lease._wait_for_expiry

  def renew_after_expiry(self):
    found = wait(self)
    dead._renewals += 1
    storage.pipe_file(f'{PATH}/1', dead._text())
    return found

  monkeypatch.setattr(lease._Lease, '_wait_for_expiry', renew_after_expiry)
  with pytest.raises(errors.BusyError), hold():
    pass
  assert numbers(storage) == ['1']


def test_a_program_that_lost_its_lock_ends(storage, monkeypatch, capsys):
  ended = threading.Event()
  statuses = []

  def end(status):
    statuses.append(status)
    ended.set()

  monkeypatch.setattr(lease.os, '_exit', end)
  with hold():
    storage.pipe_file(f'{PATH}/2', b'{}')
    assert ended.wait(20)
  assert statuses[0] == 73
  assert 'another program took it' in capsys.readouterr().err


def test_an_error_of_the_network_is_tried_again(storage, monkeypatch, caplog):
  pipe_file = storage.pipe_file
  failures = [OSError('network')]

  def fail_once(*args, **kwargs):
    if kwargs.get('mode') != 'create' and failures:
      raise failures.pop()
    return pipe_file(*args, **kwargs)

  monkeypatch.setattr(storage, 'pipe_file', fail_once)
  with hold():
    while not storage.cat_file(f'{PATH}/1').endswith(b'"renewals": 3}'):
      time.sleep(0.02)
  assert 'cannot be renewed: network' in caplog.text
