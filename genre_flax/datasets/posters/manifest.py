"""The list of a data set's files with their digests, so that damage is seen."""

from collections.abc import Callable
import json
from typing import Any

from etils import epath

from genre_flax.runtime import checksums
from genre_flax.runtime import errors
from genre_flax.runtime import files

FILE_NAME = 'digests.json'
# In the names of the files that hold the records; all others are small.
_SHARD = '.array_record-'

Manifest = dict[str, Any]


def write(folder: epath.Path) -> None:
  """Lists all files of a folder, in a file among them."""
  listed = {
    path.name: {
      'bytes': path.stat().length,
      'digest': checksums.of_file(path),
    }
    for path in sorted(folder.iterdir())
  }
  content = {'algorithm': checksums.ALGORITHM, 'files': listed}
  content['digest'] = checksums.of_json(content)
  files.write_atomic(folder / FILE_NAME, json.dumps(content, indent=2) + '\n')


def read(folder: epath.Path) -> Manifest | None:
  """The list of a data set's files.

  Args:
    folder: of the data set.

  Returns:
    {name: {'bytes', 'digest'}}; None where there is none.

  Raises:
    DamageError: it is not what was written.
  """
  path = folder / FILE_NAME
  if not path.exists():
    return None
  try:
    content = json.loads(path.read_bytes())
    own = content.pop('digest')
    listed = {
      name: {'bytes': int(one['bytes']), 'digest': str(one['digest'])}
      for name, one in content['files'].items()
    }
  except Exception as e:  # The bytes decide what is raised.
    raise errors.DamageError(f'{path} is damaged: {e!r}.') from e
  if own != checksums.of_json(content):
    raise errors.DamageError(f'{path} is damaged: it does not fit its digest.')
  return listed


def is_shard(name: str, split: str | None = None) -> bool:
  """Whether a file holds records, of a split or of any."""
  return _SHARD in name and (split is None or f'-{split}{_SHARD}' in name)


def check(
  folder: epath.Path,
  listed: Manifest,
  *,
  with_digest: Callable[[str], bool],
  progress: Callable[[list[str]], Any] = lambda names: names,
) -> None:
  """Compares the files of a data set with the list.

  Args:
    folder: of the data set.
    listed: of `read`.
    with_digest: whether a file's digest is compared, or its size alone.
    progress: shows how far it is, over the names.

  Raises:
    DamageError: files are not what was written; all of them are named.
  """
  faults = []
  for name in progress(sorted(listed)):
    fault = _find_fault(folder / name, listed[name], with_digest(name))
    if fault:
      faults.append(f'{folder / name} {fault}')
  if faults:
    raise errors.DamageError(
      '\n  '.join([f'{len(faults)} file(s) are damaged:', *faults])
    )


def _find_fault(path, expected, with_digest):
  """What is wrong with a file, in words; '' for nothing."""
  try:
    size = path.stat().length
    if size != expected['bytes']:
      return f'has {size:,} bytes, expected {expected["bytes"]:,}'
    if with_digest and checksums.of_file(path) != expected['digest']:
      return 'does not fit its digest'
  except FileNotFoundError:
    return 'is missing'
  except OSError as e:
    return f'cannot be read: {e.strerror or e}'
  return ''
