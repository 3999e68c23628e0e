"""Reads files that users name: regular ones of a bounded size, and no others.

A pipe would be waited for, a device has no end, and a file of any size would
take the machine's memory.
"""

import stat

from etils import epath


class NotReadableError(ValueError):
  """A file cannot be read; arguments: a kind of fault, the reason in words."""

  def __init__(self, kind: str, reason: str):
    super().__init__(kind, reason)
    self.kind = kind
    self.reason = reason

  def __str__(self) -> str:
    return self.reason


# Kinds.
MISSING = 'missing'
NOT_A_FILE = 'not a file'
TOO_LARGE = 'file too large'
UNREADABLE = 'unreadable'


def read(path: epath.Path, *, max_bytes: int) -> bytes:
  """The bytes of a file.

  Args:
    path: of the file.
    max_bytes: that it may have.

  Raises:
    NotReadableError: there is no such file, it is no regular one, it is too
      large, or cannot be read.
  """
  try:
    found = path.stat()
    # Storage that is not of this machine has no mode, and no pipes.
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
      # Not as much as may be: that much memory would be asked for.
      content = file.read(found.length + 1)
  except (FileNotFoundError, NotADirectoryError):
    raise NotReadableError(MISSING, 'there is no such file') from None
  except (OSError, ValueError) as e:
    if isinstance(e, NotReadableError):
      raise
    # ValueError: a name with a zero byte in it.
    words = getattr(e, 'strerror', None) or str(e)
    raise NotReadableError(UNREADABLE, words) from None
  if len(content) > found.length:
    raise NotReadableError(
      UNREADABLE, f'it has more than the {found.length:,} bytes that it says'
    )
  return content
