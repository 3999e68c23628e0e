"""The folder of an export: written beside its place, and renamed when whole."""

from collections.abc import Iterator
import contextlib
import json
import pathlib

from genre_flax.export import description
from genre_flax.runtime import errors
from genre_flax.runtime import files


def check_place(path: pathlib.Path) -> None:
  """Raises InputError where a folder is not there to be written to."""
  if files.is_remote(path):
    raise errors.InputError(
      f'An export is written to a disk, not to {path}; choose a folder of this'
      ' machine with --output.'
    )
  if path.exists() and not _is_replaceable(path):
    raise errors.InputError(
      f'{path} exists and is no export of this program, so it is left as it is;'
      ' choose another --output.'
    )


def _is_replaceable(path):
  if not path.is_dir():
    return False
  if not any(path.iterdir()):
    return True
  try:
    with open(path / description.FILE_NAME, encoding='utf-8') as file:
      return json.load(file).get('made_by') == description.PROGRAM
  except (OSError, ValueError, AttributeError):
    return False


@contextlib.contextmanager
def replacing(path: pathlib.Path) -> Iterator[pathlib.Path]:
  """A folder beside another, to write what is to replace it.

  Args:
    path: of the folder, of `check_place`; those above it are made.

  Yields:
    The folder to write to; it gets its name when the block ends well, and is
    gone when it does not.

  Raises:
    InputError: `path` is not there to be written to.
    StorageError: it cannot be written.
  """
  check_place(path)
  with files.replace_folder(path) as temporary:
    yield pathlib.Path(temporary)
