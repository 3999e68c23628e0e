"""Label tables of folders of images that come without one."""

import collections
import hashlib
import json
import pathlib
from typing import Any

from absl import logging
from etils import epath

from genre_flax.datasets.posters import columns as columns_lib
from genre_flax.datasets.posters import csv_table
from genre_flax.datasets.posters import images
from genre_flax.datasets.posters import problems as problems_lib
from genre_flax.datasets.posters import rows as rows_lib
from genre_flax.runtime import errors
from genre_flax.runtime import files
from genre_flax.runtime import regular_files
from genre_flax.runtime import text

AUTO = 'auto'
_MAX_JSON_BYTES = 1 << 24
_Records = list[dict[str, Any]] | None


def read(
  folder: epath.Path, columns: columns_lib.Columns, *, layout: str = AUTO
) -> csv_table.Table:
  """Makes the label table of a folder of images, or of a folder per split.

  Args:
    folder: the folder.
    columns: names that the user gave.
    layout: one of LAYOUTS, or AUTO for the first of them that the folder has.

  Returns:
    A table; its column file_name has paths below the folder.

  Raises:
    InputError: the folder does not have the layout, or a file cannot be read.
  """
  table = layout in (AUTO, 'metadata') and _find_metadata(folder)
  if table:
    logging.info('%s: format metadata.', table.path)
    return _with_splits(table)
  splits = _find_splits(folder)
  for name in LAYOUTS if layout == AUTO else [layout]:
    records, without = [], []
    for split in splits or ['']:
      found = _READERS[name](folder / split, columns)
      if not found:
        without.append(split)
      for record in found or ():
        if split:
          file = f'{split}/{record.get("file_name", "")}'
          record |= {'file_name': file, 'split': split}
          if 'id' in record:
            record['id'] = f'{split}/{record["id"]}'
        records.append(record)
    if records and without:
      raise errors.InputError(
        f'{folder} has the format {name}, but not in {", ".join(without)}; give'
        ' these folders the same format, or move them away.'
      )
    if records:
      logging.info('%s: format %s, %d posters.', folder, name, len(records))
      return csv_table.from_records(folder, name, records)
  raise errors.InputError(
    f'--images={folder} without --csv does not have --format={layout}: expected'
    ' metadata.csv or metadata.jsonl, a JSON file with genres beside each'
    ' image, or a folder of images per genre.'
  )


def _find_splits(folder) -> list[str]:
  """The folders of splits; none if no folder has the name of a split."""
  names = sorted(path.name for path in folder.iterdir() if path.is_dir())
  names = [n for n in names if n[0] not in '._' and n != '__MACOSX']
  others = [n for n in names if n.lower() not in rows_lib.SPLIT_ALIASES]
  if others and len(others) < len(names):
    raise errors.InputError(
      f'{folder} has folders of splits and others: {text.join_first(others)};'
      ' expected a folder per split, or per genre. Move the others away.'
    )
  return [] if others else names


def _with_splits(table: csv_table.Table) -> csv_table.Table:
  """The table, with the splits in file names such as train/1.jpg, if any."""
  if 'file_name' not in table.columns or 'split' in table.columns:
    return table
  rows = [cells for _, cells in table.rows()]
  splits = [cells['file_name'].partition('/')[0] for cells in rows]
  if {split.lower() for split in splits} - rows_lib.SPLIT_ALIASES.keys():
    return table
  records = [
    cells | {'split': split} for cells, split in zip(rows, splits, strict=True)
  ]
  return csv_table.from_records(table.path, table.format, records)


def _find_metadata(folder) -> csv_table.Table | None:
  """The table of Hugging Face's imagefolder."""
  for path in (folder / 'metadata.csv', folder / 'metadata.jsonl'):
    if path.exists():
      return csv_table.read(path)
  return None


def _read_metadata(folder, columns) -> _Records:
  del columns
  table = _find_metadata(folder)
  if table is not None and table.problems:
    raise errors.InputError(problems_lib.summarize(table.problems))
  return table and [cells for _, cells in table.rows()]


def _read_json_files(folder, columns) -> _Records:
  """A JSON file beside each image, as in MM-IMDb: 1.json and 1.jpeg."""
  paths = {str(path.relative_to(folder)): path for path in files.walk(folder)}
  tables = [name for name in paths if name.lower().endswith('.json')]
  beside = {
    name.rpartition('.')[0]: name
    for name, path in paths.items()
    if path.suffix.lower() in images.SUFFIXES
  }
  if beside.keys().isdisjoint(name[:-5] for name in tables):
    return None
  names = {'id', 'genre', 'genres', 'split', *columns.extra}
  names |= {columns.id, columns.genre, columns.split}
  records = []
  for table in tables:
    try:
      content = regular_files.read(paths[table], max_bytes=_MAX_JSON_BYTES)
      film = json.loads(content)
      film = {name: film[name] for name in names & film.keys()}
    except (ValueError, AttributeError, RecursionError) as e:
      raise errors.InputError(
        f'{paths[table]} is not a JSON file with an object: {e}.'
      ) from None
    image = beside.get(table[:-5], f'{table[:-5]}.jpg')
    records.append({'id': table[:-5], **film, 'file_name': image})
  return records


def _read_image_folder(folder, columns) -> _Records:
  """A folder of images per genre; identical images are one poster."""
  del columns
  content_of = {}
  for path in images.find(folder):
    name = pathlib.PurePath(path.relative_to(folder))
    try:
      content = hashlib.sha256(images.read(path)).digest()
    except images.BadImageError:
      content = name  # Reading it again reports the error.
    content_of[name] = content
  outside = [str(name) for name in content_of if len(name.parts) == 1]
  if len(outside) == len(content_of):
    return None
  if outside:
    names = text.printable(text.join_first(outside))
    raise errors.InputError(
      f'{folder}: expected each image in the folder of a genre, got {names}.'
    )
  first, genres = {}, collections.defaultdict(set)
  for name, content in content_of.items():
    genres[first.setdefault(content, name)].add(name.parts[0])
  num_copies = len(content_of) - len(genres)
  logging.info('%s: %d images are copies of others.', folder, num_copies)
  return [
    {'file_name': str(name), 'genres': sorted(names)}
    for name, names in genres.items()
  ]


_READERS = {
  'metadata': _read_metadata,
  'json': _read_json_files,
  'image_folder': _read_image_folder,
}
LAYOUTS = tuple(_READERS)
