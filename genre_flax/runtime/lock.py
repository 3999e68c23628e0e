"""Locks that let one program at a time use a folder."""

from collections.abc import Iterator
import contextlib
import fcntl
import os

from etils import epath

from genre_flax.runtime import errors
from genre_flax.runtime import files
from genre_flax.runtime import lease


@contextlib.contextmanager
def hold(path: epath.PathLike, message: str) -> Iterator[None]:
  """Holds a lock until the block or the process ends.

  The lock is flock(2). On Linux it also works between machines on NFS, where
  the server releases it with the client's lease. Paths on cloud storage are
  locked by an object that is renewed; see `lease`.

  Args:
    path: Lock file, which is created and remains; on cloud storage a folder.
    message: Error message if another program holds the lock; {pid} is replaced
      by its process id.

  Raises:
    BusyError: Another program holds the lock.
    StorageError: The lock file cannot be created.
  """
  if files.is_remote(path):
    with lease.hold(path, message):
      yield
    return
  path = epath.Path(path)
  with files.storage_errors(path):
    path.parent.mkdir(parents=True, exist_ok=True)
    file = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
  try:
    try:
      fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
      pid = os.pread(file, 32, 0).decode('ascii', 'replace').strip()
      raise errors.BusyError(
        message.replace('{pid}', pid or 'unknown')
      ) from None
    except OSError:
      pass  # A file system without locks.
    with contextlib.suppress(OSError):  # The disk may be full.
      os.ftruncate(file, 0)
      os.pwrite(file, f'{os.getpid()}\n'.encode(), 0)
    yield
  finally:
    os.close(file)


def is_held(path: epath.PathLike) -> bool:
  """Whether a program holds a lock; False where there are no locks."""
  try:
    with open(path) as file:
      fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
  except BlockingIOError:
    return True
  except OSError:
    pass
  return False
