"""The file of metrics by step: a line of JSON each, and its checksum.

{"step": 20, "split": "train", "loss": 5.1, ..., "crc32": "0f3a9c77"}
"""

from collections.abc import Iterable
import json
import os
from typing import Any
import zlib

from absl import logging
from etils import epath

from genre_flax.runtime import files

FILE_NAME = 'metrics.jsonl'
_CHECKSUM = 'crc32'

Line = dict[str, Any]


def read(folder: epath.PathLike) -> list[Line]:
  """The lines of a folder's file, without checksums; none without a file.

  Lines that are damaged are left out, and said to be; but for the last, which
  may be cut off where a run was killed.
  """
  path = epath.Path(folder) / FILE_NAME
  if not path.exists():
    return []
  # What comes after the last line feed may be cut off in a number.
  texts = path.read_bytes().split(b'\n')[:-1]
  # A file of an earlier version has none at all.
  has_checksums = any(_CHECKSUM.encode() in text for text in texts)
  lines = [_parse(text, has_checksum=has_checksums) for text in texts]
  damaged = [number for number, line in enumerate(lines, 1) if line is None]
  if damaged:
    logging.warning(
      '%s: %d line(s) are damaged and left out, the first of them line %d.',
      path,
      len(damaged),
      damaged[0],
    )
  return [line for line in lines if line is not None]


def write(folder: epath.PathLike, lines: Iterable[Line]) -> None:
  """Writes a folder's file anew, whole.

  Raises:
    StorageError: it cannot be written.
  """
  text = ''.join(map(_format, lines))
  files.write_whole(epath.Path(folder) / FILE_NAME, text)


def append(folder: epath.PathLike, line: Line) -> None:
  """Adds a line to a folder's file, on this machine's disk.

  Raises:
    StorageError: it cannot be written, or is not there any more: the run of a
      folder that was deleted is to end, and not to make half of it anew.
  """
  path = epath.Path(folder) / FILE_NAME
  with files.explaining(path):
    file = os.open(path, os.O_WRONLY | os.O_APPEND)
    with open(file, 'w', encoding='utf-8') as text:
      text.write(_format(line))


def _format(line: Line) -> str:
  text = json.dumps(line)
  checksum = f'{zlib.crc32(text.encode()):08x}'
  return f'{json.dumps({**line, _CHECKSUM: checksum})}\n'


def _parse(text: bytes, *, has_checksum: bool) -> Line | None:
  """The line, or None where it is not what was written."""
  try:
    line = json.loads(text)
    if has_checksum:
      del line[_CHECKSUM]
    int(line['step'])
  except (ValueError, KeyError, TypeError):
    return None
  is_whole = not has_checksum or text + b'\n' == _format(line).encode()
  return line if is_whole else None
