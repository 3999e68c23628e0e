"""Reading of files named by users: regular files of limited size only.

Reading a pipe may never return, a device has no end, and a large file may
exhaust the memory.
"""

import stat

from etils import epath

from genre_flax.runtime import files

# Kinds of `NotReadableError`.
MISSING = 'missing'
NOT_A_FILE = 'not a file'
TOO_LARGE = 'file too large'
UNREADABLE = 'unreadable'


class NotReadableError(ValueError):
  """A file cannot be read.

  Attributes:
    kind: MISSING, NOT_A_FILE, TOO_LARGE or UNREADABLE.
    reason: the cause.
  """

  def __init__(self, kind: str, reason: str):
    super().__init__(reason)
    self.kind = kind
    self.reason = reason


def read(path: epath.Path, *, max_bytes: int) -> bytes:
  """Reads a file of at most `max_bytes`.

  Raises:
    NotReadableError: The file is missing, not regular, too large or unreadable.
  """
  try:
    mode, length = files.stat(path)
    if not stat.S_ISREG(mode):
      raise NotReadableError(
        NOT_A_FILE, 'it is a folder, a pipe or a device; expected a file'
      )
    if length > max_bytes:
      raise NotReadableError(
        TOO_LARGE,
        f'it has {length:,} bytes; at most {max_bytes:,} are accepted',
      )
    with path.open('rb') as file:
      # `read` allocates its argument, so not `max_bytes`.
      content = file.read(length + 1)
  except (FileNotFoundError, NotADirectoryError):
    raise NotReadableError(MISSING, 'there is no such file') from None
  except NotReadableError:
    raise
  except (OSError, ValueError) as e:  # ValueError: a zero byte in the name.
    reason = getattr(e, 'strerror', None) or str(e)
    raise NotReadableError(UNREADABLE, reason) from None
  if len(content) > length:
    raise NotReadableError(
      UNREADABLE, f'it has more than its reported {length:,} bytes'
    )
  return content


def read_start(path: epath.Path, num_bytes: int) -> bytes:
  """The first bytes of a regular file; none if it cannot be read."""
  try:
    mode, _ = files.stat(path)
    if not stat.S_ISREG(mode):
      return b''
    with path.open('rb') as file:
      return file.read(num_bytes)
  except (OSError, ValueError):
    return b''
