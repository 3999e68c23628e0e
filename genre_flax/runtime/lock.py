"""One program at a time in a folder, on machines that share it."""

from collections.abc import Iterator
import contextlib
import fcntl
import os

from etils import epath

from genre_flax.runtime import errors
from genre_flax.runtime import files


@contextlib.contextmanager
def hold(path: epath.PathLike, message: str) -> Iterator[None]:
  """Holds a lock until the block ends, or the program does, however it ends.

  By flock(2). On Linux it holds on NFS too, between machines, where the server
  forgets it with the client's lease; cloud storage has no locks, and nothing is
  held there.

  Args:
    path: of the lock's file, which is made and stays.
    message: of the error where another program holds it; {pid} stands for its
      number.

  Yields:
    Nothing.

  Raises:
    BusyError: another program holds it.
    StorageError: the file cannot be made.
  """
  if files.is_remote(path):
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
    with contextlib.suppress(OSError):  # A full disk holds the lock, unnamed.
      os.ftruncate(file, 0)
      os.pwrite(file, f'{os.getpid()}\n'.encode(), 0)
    yield
  finally:
    os.close(file)
