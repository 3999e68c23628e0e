"""The folder that uploaded files are in, until they are deleted.

It is this process's own, only its user can look into it, and it goes when the
page ends. Whatever lies in it for a while is deleted, also what a request that
was broken off has left.
"""

import contextlib
import os
import pathlib
import time

from absl import logging
from etils import epath

# Time that a poster can be looked at again, in seconds.
KEPT_SECONDS = 15 * 60
# Of all files together; there is no more until some are deleted.
MAX_TOTAL_BYTES = 1 << 31


class Uploads:
  """The files of a folder."""

  def __init__(self, folder: str):
    """Wraps a folder that exists."""
    self.folder = os.path.realpath(folder)

  def is_inside(self, path: object) -> bool:
    """Whether a request names a place in the folder, whatever is there.

    Args:
      path: anything that a stranger may send.
    """
    if not isinstance(path, str) or '\0' in path:
      return False
    # As it is written too: not by way of a folder outside.
    if os.path.normpath(path) != path:
      return False
    return os.path.realpath(path).startswith(self.folder + os.sep)

  def find(self, path: object) -> epath.Path | None:
    """A file by what a request calls it; None unless it lies in the folder.

    Args:
      path: anything that a stranger may send.
    """
    if not self.is_inside(path) or not os.path.isfile(path):
      return None
    return epath.Path(path)

  def num_bytes(self) -> int:
    """Of all files together."""
    return sum(found.st_size for _, found in self._files())

  def delete_old(self, *, seconds: float = KEPT_SECONDS) -> int:
    """Deletes the files that are older, and returns how many there were."""
    now = time.time()
    number = 0
    for path, found in self._files():
      # By when it came to its place, which a file cannot say of itself.
      if now - found.st_ctime > seconds:
        path.unlink(missing_ok=True)
        number += 1
    for folder in list(pathlib.Path(self.folder).iterdir()):
      with contextlib.suppress(OSError):  # It is not empty, or is gone.
        if now - folder.stat().st_mtime > seconds:
          folder.rmdir()
    if number:
      logging.info('Deleted %d uploaded file(s).', number)
    return number

  def _files(self):
    for path in list(pathlib.Path(self.folder).rglob('*')):
      try:
        found = path.lstat()
      except FileNotFoundError:
        continue  # Meanwhile it was deleted.
      if not path.is_dir() or path.is_symlink():
        yield path, found
