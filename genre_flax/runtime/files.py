"""Files that people keep: written beside their place, and renamed when whole.

So a name never stands for half a file, whenever the program is stopped. On
cloud storage, where a file appears once it is complete, it is written there.
"""

from collections.abc import Iterator
import contextlib
import errno
import os
import re
import uuid

from etils import epath

from genre_flax.runtime import errors

# What is wrong with the disk, and not with the program.
_OF_STORAGE = frozenset(
  {
    errno.EACCES,
    errno.EDQUOT,
    errno.EEXIST,
    errno.EFBIG,
    errno.EIO,
    errno.EISDIR,
    errno.ENOENT,
    errno.ENOSPC,
    errno.ENOTDIR,
    errno.EPERM,
    errno.EROFS,
    errno.ESTALE,
  }
)
# How libraries in C++ tell of it.
_IN_WORDS = re.compile(
  'No space left|Read-only file system|File too large|quota exceeded'
  '|Permission denied|Operation not permitted|Input/output error'
  '|Stale file handle|No such file or directory|does not exist'
  '|Not enough disk space',
  re.IGNORECASE,
)


def is_remote(path: epath.PathLike) -> bool:
  """Whether a path is on cloud storage, such as gs://."""
  return '://' in str(path)


def write_whole(path: epath.PathLike, content: str | bytes) -> None:
  """Writes a file: afterwards it has its old content or all of the new.

  Args:
    path: of the file; its folder exists.
    content: text, which is written as UTF-8, or bytes.

  Raises:
    StorageError: it cannot be written.
  """
  content = content.encode() if isinstance(content, str) else content
  with replacing(path) as beside, beside.open('wb') as file:
    file.write(content)


@contextlib.contextmanager
def replacing(path: epath.PathLike) -> Iterator[epath.Path]:
  """A place beside a file, to write what is to replace it.

  Args:
    path: of the file; its folder exists.

  Yields:
    The path to write to; it gets its name when the block ends well.

  Raises:
    StorageError: it cannot be written.
  """
  path = epath.Path(path)
  with explaining(path):
    if is_remote(path):
      yield path
      return
    # Of one process alone: two that write the same file write one of the two.
    beside = path.parent / f'.{path.name}.{uuid.uuid4().hex[:8]}.partial'
    try:
      yield beside
      # On disk before it has the name, should the machine stop.
      with open(beside, 'rb') as file:
        os.fsync(file.fileno())
      os.replace(beside, path)
    finally:
      beside.unlink(missing_ok=True)


@contextlib.contextmanager
def explaining(path: epath.PathLike) -> Iterator[None]:
  """Tells of a disk that is full, read-only or gone as a StorageError.

  Args:
    path: that is written to, for the message.
  """
  try:
    yield
  except errors.UserError:
    raise
  except Exception as e:
    if is_of_storage(e):
      raise explain(e, path) from e
    raise


def is_of_storage(error: BaseException) -> bool:
  """Whether an error is the disk's fault: full, read-only, gone."""
  if isinstance(error, OSError) and error.errno in _OF_STORAGE:
    return True
  return bool(_IN_WORDS.search(str(error)))


def explain(error: BaseException, path: epath.PathLike) -> errors.StorageError:
  """What `explaining` raises of an error."""
  words = getattr(error, 'strerror', None)
  if not words:
    found = _IN_WORDS.search(str(error))
    words = found.group() if found else str(error)
  return errors.StorageError(
    f'{path} cannot be written: {words}. What was written before is whole;'
    ' make room, or see that the folder is there and may be written to, and'
    ' give the same command again.'
  )
