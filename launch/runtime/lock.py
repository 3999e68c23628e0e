"""One launcher for one job, and one for one folder, on this machine."""

from collections.abc import Iterator
import contextlib
import fcntl
import os
import pathlib

from launch.runtime import errors


@contextlib.contextmanager
def hold(path: pathlib.Path, message: str) -> Iterator[None]:
  """Holds a lock until the block ends, or the program does, however it ends.

  Args:
    path: of the lock's file.
    message: of the error where another program holds it; {pid} stands for its
      number.

  Yields:
    Nothing.

  Raises:
    BusyError: another program holds it.
  """
  path.parent.mkdir(parents=True, exist_ok=True)
  with open(path, 'a+', encoding='ascii') as f:
    try:
      fcntl.flock(f, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
      f.seek(0)
      raise errors.BusyError(
        message.format(pid=f.read().strip() or 'unknown')
      ) from None
    f.seek(0)
    f.truncate()
    f.write(f'{os.getpid()}\n')
    f.flush()
    yield
