"""Locks on cloud storage, which has no flock.

A lock is a folder of objects with the names 1, 2, ... An object is created on
the condition that it does not exist (`if_generation_match=0` on Google Cloud
Storage), so that one of several programs succeeds. Its holder rewrites it
several times per lease. An object that does not change for a whole lease
belongs to a dead program; the next number is then created. The time is
measured by the observer, since clocks of machines differ.
"""

from collections.abc import Iterator
import contextlib
import json
import os
import socket
import sys
import threading
import time
import uuid

from absl import logging
from etils import epath
import fsspec

from genre_flax.runtime import errors
from genre_flax.runtime import files

LEASE_SECONDS = 60.0
_RENEWALS_PER_LEASE = 4


@contextlib.contextmanager
def hold(
  path: epath.PathLike, message: str, *, lease_seconds: float | None = None
) -> Iterator[None]:
  """Holds a lock until the block ends, renewing it in a thread.

  A program that loses its lock, because it could not renew it for a whole
  lease and another one took it, ends at once with the status of BusyError.

  Args:
    path: URL of the lock.
    message: Error message if another program holds the lock; {pid} is replaced
      by its process id and host.
    lease_seconds: Time without renewal after which a lock is free; by default
      LEASE_SECONDS.

  Raises:
    BusyError: Another program holds the lock.
    StorageError: The lock cannot be written.
  """
  lease = _Lease(path, message, seconds=lease_seconds or LEASE_SECONDS)
  with files.storage_errors(path):
    lease.acquire()
  is_released = threading.Event()
  thread = threading.Thread(
    target=lease.renew_until, args=(is_released,), name='lease', daemon=True
  )
  thread.start()
  try:
    yield
  finally:
    is_released.set()
    thread.join()
    lease.release()


class _Lease:
  """A lock of this process, or one that it waits for."""

  def __init__(self, path: epath.PathLike, message: str, *, seconds: float):
    self._path = str(path)
    self._message = message
    self._seconds = seconds
    self._fs, self._folder = fsspec.core.url_to_fs(self._path)
    self._number = 0
    self._renewals = 0
    self._token = uuid.uuid4().hex

  def acquire(self) -> None:
    """Creates the lock, after that of a dead program has expired."""
    number, content = self._wait_for_expiry()
    self._number = number + 1
    try:
      self._fs.pipe_file(
        self._object(self._number), self._text(), mode='create'
      )
    except FileExistsError:
      raise self._busy(self._latest()[1]) from None
    if content is not None:
      # Otherwise it was renewed, or released, after all.
      if self._read(number) != content:
        self._delete(self._number)
        raise self._busy(self._read(number))
      self._delete(number)

  def _wait_for_expiry(self) -> tuple[int, bytes | None]:
    """The latest lock, expired, or (0, None) without one."""
    number, content = self._latest()
    if content is None:
      return 0, None
    logging.info(
      'Waiting up to %.0f s for the lock %s of process %s.',
      self._seconds,
      self._path,
      _holder(content),
    )
    end = time.monotonic() + self._seconds
    while time.monotonic() < end:
      time.sleep(self._seconds / (2 * _RENEWALS_PER_LEASE))
      latest = self._latest()
      if latest == (0, None):
        return latest
      if latest != (number, content):
        raise self._busy(latest[1])
    return number, content

  def renew_until(self, is_released: threading.Event) -> None:
    """Renews the lock regularly; ends the process if it is lost."""
    while not is_released.wait(self._seconds / _RENEWALS_PER_LEASE):
      try:
        number, content = self._latest()
        if number != self._number or self._token.encode() not in content:
          self._end()
        self._renewals += 1
        self._fs.pipe_file(self._object(self._number), self._text())
      except Exception as e:  # Any error of the network; tried again.
        logging.warning('%s cannot be renewed: %s', self._path, e)

  def release(self) -> None:
    """Deletes the lock."""
    with contextlib.suppress(Exception):  # It expires.
      self._delete(self._number)

  def _end(self) -> None:
    print(
      f'error: The lock {self._path} was not renewed for'
      f' {self._seconds:.0f} s, and another program took it. This one ends.',
      file=sys.stderr,
      flush=True,
    )
    os._exit(errors.BusyError.exit_status)

  def _latest(self) -> tuple[int, bytes | None]:
    """The highest number and its content; (0, None) if there is none."""
    self._fs.invalidate_cache(self._folder)
    try:
      names = self._fs.ls(self._folder, detail=False)
    except FileNotFoundError:
      return 0, None
    bases = [name.rstrip('/').rpartition('/')[2] for name in names]
    number = max((int(base) for base in bases if base.isdigit()), default=0)
    content = self._read(number) if number else None
    return (0, None) if content is None else (number, content)

  def _read(self, number: int) -> bytes | None:
    try:
      return self._fs.cat_file(self._object(number))
    except FileNotFoundError:
      return None

  def _delete(self, number: int) -> None:
    with contextlib.suppress(FileNotFoundError):
      self._fs.rm_file(self._object(number))

  def _object(self, number: int) -> str:
    return f'{self._folder}/{number}'

  def _text(self) -> bytes:
    return json.dumps(
      {
        'process': f'{os.getpid()} on {socket.gethostname()}',
        'token': self._token,
        'renewals': self._renewals,
      }
    ).encode()

  def _busy(self, content: bytes | None) -> errors.BusyError:
    return errors.BusyError(self._message.replace('{pid}', _holder(content)))


def _holder(content: bytes | None) -> str:
  try:
    return str(json.loads(content)['process'])
  except (ValueError, KeyError, TypeError):
    return 'unknown'
