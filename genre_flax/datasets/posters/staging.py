"""Data sets on cloud storage, whose ArrayRecord files are on disk while used.

ArrayRecord writes to disk alone. Reading thousands of small records from cloud
storage in random order would be slow.
"""

import pathlib
import shutil

from absl import logging
from etils import epath

from genre_flax.runtime import files


def fetch(
  folder: epath.Path, *, key: str, is_damaged: bool = False
) -> epath.Path:
  """A copy of a data set's folder on this machine's disk, made once.

  Args:
    folder: of the data set, with NAME/VERSION as its end.
    key: tells the content; the copy of an earlier call with it is taken.
    is_damaged: whether that copy is known to be, and another is to be made.

  Returns:
    The copy, in the user's cache folder ($XDG_CACHE_HOME or ~/.cache).

  Raises:
    StorageError: it cannot be copied.
  """
  whole = files.cache_dir() / 'data' / key
  relative = pathlib.Path(folder.parent.name) / folder.name
  with files.storage_errors(epath.Path(whole)):
    if is_damaged:
      shutil.rmtree(whole)
    if not whole.exists():
      logging.info('Copying %s to %s.', folder, whole)
      # Another process of this machine may be quicker; then its copy is kept.
      with files.replace_folder(whole, overwrite=False) as temporary:
        copy(folder, temporary / relative)
  return epath.Path(whole / relative)


def copy(source: epath.Path, target: epath.Path, *, last: str = '') -> None:
  """Copies the files of a folder, which has no folders in it.

  Args:
    source: the folder.
    target: its copy; made where there is none.
    last: name of the file without which the copy counts as nothing.
  """
  target.mkdir(parents=True, exist_ok=True)
  for path in sorted(source.iterdir(), key=lambda path: path.name == last):
    path.copy(target / path.name, overwrite=True)
