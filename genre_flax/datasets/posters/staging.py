"""Local copies of datasets on cloud storage.

ArrayRecord writes to local disks only, and random access to thousands of small
records on cloud storage would be slow.
"""

import pathlib
import shutil

from absl import logging
from etils import epath

from genre_flax.runtime import files


def fetch(
  folder: epath.Path, *, key: str, is_damaged: bool = False
) -> epath.Path:
  """Copies a dataset's folder to the user's cache folder, once.

  Args:
    folder: folder of the dataset, ending in NAME/VERSION.
    key: identifies the contents; an existing copy with this key is used.
    is_damaged: whether to replace an existing copy.

  Returns:
    The copy.

  Raises:
    StorageError: the copy cannot be written.
  """
  target = files.cache_dir() / 'data' / key
  relative = pathlib.Path(folder.parent.name) / folder.name
  with files.storage_errors(epath.Path(target)):
    if is_damaged:
      shutil.rmtree(target)
    if not target.exists():
      logging.info('Copying %s to %s.', folder, target)
      # If another process on this machine is faster, its copy is kept.
      with files.replace_folder(target, overwrite=False) as temporary:
        copy(folder, temporary / relative)
  return epath.Path(target / relative)


def copy(source: epath.Path, target: epath.Path, *, last: str = '') -> None:
  """Copies the files of a folder without subfolders.

  Args:
    source: the folder.
    target: its copy; created if necessary.
    last: name of the file to copy last, which marks the copy as complete.
  """
  target.mkdir(parents=True, exist_ok=True)
  for path in sorted(source.iterdir(), key=lambda path: path.name == last):
    path.copy(target / path.name, overwrite=True)
