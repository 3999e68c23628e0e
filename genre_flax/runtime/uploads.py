"""Uploads of growing files to cloud storage, which cannot append.

One object takes about one write per second, and an upload blocks for tenths of
a second. Files are therefore written locally and copied by a thread.
"""

import pathlib
import shutil
import tempfile
import threading

from absl import logging
from etils import epath

INTERVAL_SECONDS = 30.0


class Uploader:
  """Copies the changed files of a local folder to another, now and then."""

  def __init__(
    self, target: epath.PathLike, *, interval_seconds: float | None = None
  ):
    """Creates the local folder and starts the thread."""
    self.folder = pathlib.Path(tempfile.mkdtemp(prefix='genre_flax_'))
    self._target = epath.Path(target)
    self._interval = interval_seconds or INTERVAL_SECONDS
    # Sizes at the last upload. The files only grow.
    self._sizes: dict[pathlib.Path, int] = {}
    self._is_due = threading.Event()
    self._is_closed = False
    self._thread = threading.Thread(
      target=self._run, name='uploads', daemon=True
    )
    self._thread.start()

  def request(self) -> None:
    """Starts an upload now, without waiting for its end."""
    self._is_due.set()

  def close(self) -> None:
    """Uploads the rest; keeps the local folder if that fails."""
    self._is_closed = True
    self._is_due.set()
    self._thread.join()
    if self._copy_changed():
      shutil.rmtree(self.folder, ignore_errors=True)
    else:
      logging.warning('Files for %s remain in %s.', self._target, self.folder)

  def _run(self) -> None:
    while not self._is_closed:
      self._is_due.wait(self._interval)
      self._is_due.clear()
      if not self._is_closed:
        self._copy_changed()

  def _copy_changed(self) -> bool:
    """Whether all files that have grown are uploaded."""
    succeeded = True
    for path in sorted(self.folder.rglob('*')):
      target = self._target / path.relative_to(self.folder)
      try:
        if not path.is_file() or self._sizes.get(path) == path.stat().st_size:
          continue
        content = path.read_bytes()
        target.write_bytes(content)
        self._sizes[path] = len(content)
      except Exception as e:  # Of the disk or the network; tried again.
        if path.exists():  # Otherwise a logger deleted its temporary file.
          logging.warning('%s cannot be uploaded: %s', target, e)
          succeeded = False
    return succeeded
