"""Reading of files named by users: regular files of limited size only.

Reading a pipe may never return, a device has no end, and a large file may
exhaust the memory.
"""

import stat

from etils import epath

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
    found = path.stat()
    # Cloud storage has no file modes, pipes or devices.
    if found.is_directory or not stat.S_ISREG(found.mode or stat.S_IFREG):
      raise NotReadableError(
        NOT_A_FILE, 'it is a folder, a pipe or a device; expected a file'
      )
    if found.length > max_bytes:
      raise NotReadableError(
        TOO_LARGE,
        f'it has {found.length:,} bytes; at most {max_bytes:,} are accepted',
      )
    with path.open('rb') as file:
      # `read` allocates its argument, so not `max_bytes`.
      content = file.read(found.length + 1)
  except (FileNotFoundError, NotADirectoryError):
    raise NotReadableError(MISSING, 'there is no such file') from None
  except NotReadableError:
    raise
  except (OSError, ValueError) as e:  # ValueError: a zero byte in the name.
    reason = getattr(e, 'strerror', None) or str(e)
    raise NotReadableError(UNREADABLE, reason) from None
  if len(content) > found.length:
    raise NotReadableError(
      UNREADABLE, f'it has more than its reported {found.length:,} bytes'
    )
  return content
