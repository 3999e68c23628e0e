"""Atomic writes, storage errors and the cache folder.

A file or folder is written under a temporary name beside its final one, flushed
to disk and renamed. An interrupted program therefore leaves the old content or
the new one. On cloud storage, where an object appears when it is complete,
files are written in place.
"""

import atexit
from collections.abc import Iterator
import contextlib
import functools
import math
import os
import pathlib
import re
import shutil
import stat as stat_lib
import tempfile
import uuid

from etils import epath

from genre_flax.runtime import errors

# Errors of the disk in exceptions of C++ libraries, which have no errno.
_STORAGE_MESSAGES = re.compile(
  'No space left|Read-only file system|File too large|quota exceeded'
  '|Permission denied|Operation not permitted|Input/output error'
  '|Stale file handle|No such file or directory|does not exist'
  '|Not enough disk space',
  re.IGNORECASE,
)


def is_remote(path: epath.PathLike) -> bool:
  """Whether a path is on cloud storage, such as gs://."""
  return '://' in str(path)


def stat(path: epath.PathLike) -> tuple[int, int]:
  """Mode and size in bytes of a file or folder.

  `epath.Path.stat` raises KeyError if the owner or the group has no name, as in
  containers and on network drives.
  """
  if not is_remote(path):
    found = os.stat(path)
    return found.st_mode, found.st_size
  found = epath.Path(path).stat()
  # Cloud storage has no file modes, pipes or devices.
  kind = stat_lib.S_IFDIR if found.is_directory else stat_lib.S_IFREG
  return kind, found.length


def walk(
  folder: epath.PathLike, visited: set[str] | None = None
) -> Iterator[epath.Path]:
  """All files below a folder, sorted; each folder once, even if links loop.

  Hidden files and those that macOS adds to archives are left out.

  Raises:
    InputError: a folder cannot be read.
  """
  folder = epath.Path(folder)
  place = str(folder) if is_remote(folder) else os.path.realpath(folder)
  visited = set() if visited is None else visited
  if place in visited:
    return
  visited.add(place)
  try:
    paths = sorted(folder.iterdir())
  except OSError as e:
    raise errors.InputError(
      f'The folder {folder} cannot be read: {e.strerror or e}.'
    ) from e
  for path in paths:
    if path.name.startswith('.') or path.name == '__MACOSX':
      continue
    if path.is_dir():
      yield from walk(path, visited)
    else:
      yield path


def cache_dir() -> pathlib.Path:
  """The user's cache folder for this package ($XDG_CACHE_HOME or ~/.cache).

  For a user without a home, a temporary folder of this process.
  """
  cache = os.environ.get('XDG_CACHE_HOME') or os.path.expanduser('~/.cache')
  # The user has neither HOME nor an entry in passwd.
  cache = _temporary_dir() if cache.startswith('~') else cache
  return pathlib.Path(cache) / 'genre_flax'


@functools.cache
def _temporary_dir() -> str:
  folder = tempfile.TemporaryDirectory(prefix='genre_flax_cache_')
  atexit.register(folder.cleanup)
  return folder.name


def free_space(path: epath.PathLike) -> float:
  """Free bytes of the disk of a path, which may be new; infinite on gs://."""
  if is_remote(path):
    return math.inf
  path = pathlib.Path(path).absolute()
  existing = next(p for p in (path, *path.parents) if os.path.exists(p))
  return shutil.disk_usage(existing).free


def write_atomic(path: epath.PathLike, content: str | bytes) -> None:
  """Writes bytes, or text as UTF-8, to a file atomically.

  Raises:
    StorageError: The file cannot be written.
  """
  content = content.encode() if isinstance(content, str) else content
  with replace_file(path) as temporary, temporary.open('wb') as file:
    file.write(content)


@contextlib.contextmanager
def replace_file(path: epath.PathLike) -> Iterator[epath.Path]:
  """Creates or replaces a file of an existing folder atomically.

  Yields:
    A temporary path to write to. It is renamed to `path` when the block ends,
    and deleted if the block raises.

  Raises:
    StorageError: The file cannot be written.
  """
  path = epath.Path(path)
  with storage_errors(path):
    if is_remote(path):
      yield path
      return
    temporary = _temporary_path(path)
    try:
      yield temporary
      _flush(temporary)
      os.replace(temporary, path)
    finally:
      temporary.unlink(missing_ok=True)


@contextlib.contextmanager
def replace_folder(
  path: epath.PathLike, *, overwrite: bool = True
) -> Iterator[epath.Path]:
  """Creates or replaces a folder on a local disk.

  Args:
    path: The folder; its parents are created.
    overwrite: Whether to replace an existing folder. If False, a folder that
      another process created in the meantime is kept.

  Yields:
    A temporary empty folder to write to. It is renamed to `path` when the block
    ends, and deleted if the block raises.

  Raises:
    StorageError: The folder cannot be written.
  """
  path = epath.Path(path)
  with storage_errors(path):
    temporary = _temporary_path(path)
    try:
      temporary.mkdir(parents=True)
      yield temporary
      rename_folder(temporary, path, overwrite=overwrite)
    finally:
      shutil.rmtree(temporary, ignore_errors=True)


def rename_folder(
  source: epath.PathLike, target: epath.PathLike, *, overwrite: bool = True
) -> None:
  """Renames a complete folder on a local disk, after flushing its files.

  An existing folder is replaced, or restored on failure; with `overwrite=False`
  it is kept, and nothing is renamed.
  """
  source, target = epath.Path(source), epath.Path(target)
  for file in pathlib.Path(source).rglob('*'):
    if file.is_file():
      _flush(file)
  if target.exists() and not overwrite:
    return
  old = _temporary_path(source)
  try:
    if target.exists():
      os.replace(target, old)
    os.replace(source, target)
  finally:
    if old.exists() and not target.exists():
      os.replace(old, target)
    shutil.rmtree(old, ignore_errors=True)


def _temporary_path(path: epath.Path) -> epath.Path:
  # A unique name, since several processes may write the same path.
  return path.parent / f'.{path.name}.{uuid.uuid4().hex[:8]}.partial'


def _flush(path: epath.PathLike) -> None:
  with open(path, 'rb') as file:
    os.fsync(file.fileno())


@contextlib.contextmanager
def storage_errors(path: epath.PathLike) -> Iterator[None]:
  """Converts errors of a full, read-only or missing disk to StorageError.

  The message names `path`, the file or folder that the block writes.
  """
  try:
    yield
  except errors.UserError:
    raise
  except Exception as e:
    message = _STORAGE_MESSAGES.search(str(e))
    if isinstance(e, OSError) and e.errno is not None:
      reason = e.strerror or str(e)
    elif message:
      reason = message.group()
    else:
      raise
    raise errors.StorageError(
      f'{path} cannot be written: {reason}. Files written before are intact.'
      ' Free disk space or check the folder and its permissions, then run the'
      ' same command again.'
    ) from e
