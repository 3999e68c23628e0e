"""Label tables of folders of images that come without a CSV file."""

from collections.abc import Sequence
import hashlib
import json
import pathlib

from absl import logging
from etils import epath
import pandas as pd

from genre_flax.datasets.posters import csv_table
from genre_flax.datasets.posters import images
from genre_flax.datasets.posters import problems as problems_lib
from genre_flax.datasets.posters import rows as rows_lib
from genre_flax.runtime import errors
from genre_flax.runtime import files
from genre_flax.runtime import regular_files
from genre_flax.runtime import text

AUTO = 'auto'
_METADATA = ('metadata.csv', 'metadata.jsonl')
_MAX_JSON_BYTES = 1 << 24


def read(
  folder: epath.Path, *, layout: str = AUTO, columns: Sequence[str] = ()
) -> csv_table.Table:
  """Makes the label table of a folder of images, or of its splits' folders.

  Args:
    folder: the folder.
    layout: one of LAYOUTS, or AUTO for the first of them that the folder has.
    columns: entries of JSON files to read, besides id, genres and split.

  Returns:
    A table; its column file_name has paths below the folder.

  Raises:
    InputError: the folder does not have the layout, or a file cannot be read.
  """
  splits = [path.name for path in sorted(folder.iterdir()) if path.is_dir()]
  if {name.lower() for name in splits} - rows_lib.SPLIT_ALIASES.keys():
    splits = []
  for name in LAYOUTS if layout == AUTO else [layout]:
    frames = []
    for split in splits or ['']:
      frame = _READERS[name](folder / split, columns)
      if frame is not None and split:
        paths = f'{split}/' + frame['file_name']
        frame = frame.assign(split=split, file_name=paths)
      frames.append(frame)
    if any(frame is not None for frame in frames):
      content = pd.concat(frames).to_csv(index=False).encode()
      table = csv_table.read(folder, content)
      logging.info('%s: format %s, %d posters.', folder, name, table.num_rows)
      return table
  raise errors.InputError(
    f'--images={folder} without --csv does not have --format={layout}: expected'
    ' metadata.csv or metadata.jsonl, a JSON file with genres beside each'
    ' image, or a folder of images per genre.'
  )


def _read_metadata(folder, columns):
  """The table of Hugging Face's imagefolder."""
  del columns
  path = next((p for n in _METADATA if (p := folder / n).exists()), None)
  if path is None:
    return None
  table = csv_table.read(path)
  if table.problems:
    raise errors.InputError(problems_lib.summarize(table.problems))
  return pd.DataFrame([cells for _, cells in table.rows()])


def _read_json_files(folder, columns):
  """A JSON file beside each image, as in MM-IMDb: 1.json and 1.jpeg."""
  paths = {str(path.relative_to(folder)): path for path in files.walk(folder)}
  tables = [name for name in paths if name.lower().endswith('.json')]
  stems = {name.rpartition('.')[0] for name in paths.keys() - {*tables}}
  if not any(name[:-5] in stems for name in tables):
    return None
  names = {'id', 'genre', 'genres', 'split', *columns}
  rows = []
  for table in tables:
    try:
      content = regular_files.read(paths[table], max_bytes=_MAX_JSON_BYTES)
      film = json.loads(content)
      film = {name: film[name] for name in names & film.keys()}
    except (ValueError, AttributeError, RecursionError) as e:
      raise errors.InputError(
        f'{paths[table]} is not a JSON file with an object: {e}.'
      ) from None
    # The image may have any suffix.
    image = f'{table[:-5]}.jpg'
    rows.append({'id': table[:-5], **film, 'file_name': image})
  return pd.DataFrame(rows, dtype=object)


def _read_image_folder(folder, columns):
  """A folder of images per genre; copies of an image are one poster.

  Images with equal names are copies, too, if most of them are identical.
  Otherwise the images of each folder are numbered.
  """
  del columns
  paths = [pathlib.PurePath(p.relative_to(folder)) for p in images.find(folder)]
  outside = [str(path) for path in paths if len(path.parts) == 1]
  if len(outside) == len(paths):
    return None
  if outside:
    names = text.printable(text.join_first(outside))
    raise errors.InputError(
      f'{folder}: expected each image in the folder of a genre, got {names}.'
    )
  frame = pd.DataFrame(
    {
      'file_name': map(str, paths),
      'name': [path.stem for path in paths],
      'genre': [path.parts[0] for path in paths],
      'content': [_content(folder / path) for path in paths],
    }
  )
  shared = frame.groupby('name')[['genre', 'content']].nunique()
  shared = shared[shared.genre > 1]
  if (shared.content > 1).mean() > 0.5:
    logging.warning(
      '%s: %d names are in several folders, most of them with different images;'
      ' each is taken as another film.',
      folder,
      len(shared),
    )
    frame['name'] = frame.file_name
  poster = frame.groupby('content').name.transform('first')
  frame['genres'] = frame.groupby(poster).genre.transform(
    lambda genres: str(sorted({*genres}))
  )
  return frame[~poster.duplicated()][['file_name', 'genres']]


def _content(path: epath.Path) -> str:
  try:
    return hashlib.sha256(images.read(path)).hexdigest()
  except images.BadImageError:
    return str(path)  # Reading it again reports the error.


_READERS = {
  'metadata': _read_metadata,
  'json': _read_json_files,
  'image_folder': _read_image_folder,
}
LAYOUTS = tuple(_READERS)
