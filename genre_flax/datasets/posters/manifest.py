"""Sizes and checksums of a dataset's files, to detect damage."""

from collections.abc import Callable, Iterable
import json
from typing import Any

from etils import epath

from genre_flax.runtime import checksums
from genre_flax.runtime import errors
from genre_flax.runtime import files

FILE_NAME = 'checksums.json'
REMEDY = 'Run prepare again with --overwrite, or copy the dataset again.'
# Part of the names of the files of records; all other files are small.
_SHARD = '.array_record-'

# {file name: {'bytes', 'checksum'}}.
Manifest = dict[str, Any]


def write(folder: epath.Path) -> None:
  """Writes the manifest of all files in a folder."""
  manifest = {
    path.name: {
      'bytes': files.stat(path)[1],
      'checksum': checksums.of_file(path),
    }
    for path in sorted(folder.iterdir())
  }
  content = {'algorithm': checksums.ALGORITHM, 'files': manifest}
  content['checksum'] = checksums.of_json(content)
  files.write_atomic(folder / FILE_NAME, json.dumps(content, indent=2) + '\n')


def read(folder: epath.Path) -> Manifest:
  """Reads the manifest of a dataset's folder.

  Raises:
    DamageError: the manifest is missing or does not match its checksum.
  """
  path = folder / FILE_NAME
  try:
    content = json.loads(path.read_bytes())
    expected = content.pop('checksum')
    manifest = {
      name: {'bytes': int(one['bytes']), 'checksum': str(one['checksum'])}
      for name, one in content['files'].items()
    }
  except FileNotFoundError:
    raise errors.DamageError(
      f'{path} is missing: the dataset is damaged or of an earlier version.'
      f' {REMEDY}'
    ) from None
  except Exception as e:  # Damaged bytes raise exceptions of many types.
    raise errors.DamageError(f'{path} is damaged: {e!r}. {REMEDY}') from e
  if checksums.of_json(content) != expected:
    raise errors.DamageError(
      f'{path} is damaged: it does not match its checksum. {REMEDY}'
    )
  return manifest


def is_shard(name: str, split: str | None = None) -> bool:
  """Whether a file holds records of a split, or of any split for None."""
  return _SHARD in name and (split is None or f'-{split}{_SHARD}' in name)


def check(
  folder: epath.Path,
  manifest: Manifest,
  *,
  with_checksums: bool,
  progress: Callable[[list[str]], Iterable[str]] = lambda names: names,
) -> None:
  """Compares the files of a dataset with its manifest.

  Args:
    folder: folder of the dataset.
    manifest: the files to compare.
    with_checksums: whether to compare checksums, or sizes only.
    progress: shows the progress over the file names.

  Raises:
    DamageError: files are missing or differ; the message names all of them.
  """
  faults = []
  for name in progress(sorted(manifest)):
    fault = _find_fault(folder / name, manifest[name], with_checksums)
    if fault:
      faults.append(f'{folder / name} {fault}')
  if faults:
    raise errors.DamageError(
      '\n  '.join([f'{len(faults)} file(s) are damaged:', *faults])
      + f'\n{REMEDY}'
    )


def _find_fault(path, expected, with_checksums):
  """Describes the damage of a file; '' for none."""
  try:
    _, size = files.stat(path)
    if size != expected['bytes']:
      return f'has {size:,} bytes, expected {expected["bytes"]:,}'
    if with_checksums and checksums.of_file(path) != expected['checksum']:
      return 'does not match its checksum'
  except FileNotFoundError:
    return 'is missing'
  except OSError as e:
    return f'cannot be read: {e.strerror or e}'
  return ''
