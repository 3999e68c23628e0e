r"""Builds a dataset from label tables and folders of posters.

python -m genre_flax.prepare --csv=train.csv --images=Images --data_dir=data
python -m genre_flax.prepare --images=folder_per_genre --data_dir=data
python -m genre_flax.prepare --read_text --data_dir=data

Every row and every image is validated before anything is written. The posters
are then split into train, validation and test, and stored as ArrayRecord files
with a data card. --read_text stores the text on the posters as well; alone, it
adds the text to a dataset.
"""

import os
import shlex
import sys
from typing import Any

from absl import flags
from etils import epath
import tqdm

from genre_flax.datasets.posters import build
from genre_flax.datasets.posters import columns
from genre_flax.datasets.posters import data_card
from genre_flax.datasets.posters import extension
from genre_flax.datasets.posters import extra_columns
from genre_flax.datasets.posters import layouts
from genre_flax.datasets.posters import sources
from genre_flax.datasets.posters import splits
from genre_flax.datasets.posters import storage
from genre_flax.runtime import command_line
from genre_flax.runtime import errors

_CSV = flags.DEFINE_multi_string(
  'csv',
  [],
  'Table with a row for each poster: CSV or other delimited text, JSON lines,'
  ' Parquet. To build one dataset from several files, give --csv and --images'
  ' several times, in the same order.',
)
_IMAGES = flags.DEFINE_multi_string(
  'images',
  [],
  'Folder of the images of the --csv at the same position; without --csv,'
  ' images with genres in one of the formats of --format.',
)
_FORMAT = flags.DEFINE_enum(
  'format',
  layouts.AUTO,
  [layouts.AUTO, *layouts.LAYOUTS],
  'Format of --images without --csv: a file metadata.csv or metadata.jsonl, a'
  ' JSON file beside each image, or a folder of images per genre.',
)
_DATA_DIR = flags.DEFINE_string(
  'data_dir', None, 'Folder to write the dataset to.', required=True
)
_SYNTHETIC = flags.DEFINE_integer(
  'synthetic',
  0,
  'Number of synthetic posters to generate in place of --csv and --images.',
  lower_bound=0,
)
_ID_COLUMN = flags.DEFINE_string(
  'id_column', None, 'Column of the film ids; default: by its name.'
)
_GENRE_COLUMN = flags.DEFINE_string(
  'genre_column',
  None,
  'Column of the genre lists, "" for none; default: by its name.',
)
_LABEL_COLUMNS = flags.DEFINE_list(
  'label_columns',
  None,
  'One-hot columns, "" for none; default: all columns of 0 and 1.',
)
_IMAGE_COLUMN = flags.DEFINE_string(
  'image_column', None, 'Column of the image paths below --images.'
)
_IMAGE_PATTERN = flags.DEFINE_string(
  'image_pattern',
  '{id}.jpg',
  'Image path below --images, if there is no --image_column. {id:07d} is the'
  ' number in the id, with leading zeros. If there is no such file, an image'
  ' with another suffix is used.',
)
_EXTRA_COLUMNS = flags.DEFINE_list(
  'extra_columns',
  [],
  'Columns of numbers or categories to store as further inputs of a network,'
  ' such as year,country.',
)
_SPLIT_COLUMN = flags.DEFINE_string(
  'split_column',
  None,
  'Column of train, validation and test, "" for none; default: by its name.',
)
_SEPARATOR = flags.DEFINE_string(
  'separator',
  None,
  r'Separator of the cells of a row, such as ";", "\t" or "::"; default: as in'
  ' the first rows.',
)
_GENRE_SEPARATOR = flags.DEFINE_string(
  'genre_separator',
  None,
  'Separator of the names in a genre list, such as " "; default: | , ; or /.',
)
_KEEP_NA = flags.DEFINE_bool(
  'keep_na',
  False,
  'Keep N/A, NaN, None, null and the like as genres; default: they are missing'
  ' values.',
)
_SPLITS = flags.DEFINE_string(
  'splits',
  '80,10,10',
  'Percent for train, validation and test, assigned by a hash of the id; a'
  ' column Split in the CSV wins.',
)
_EXCLUDE_GENRES = flags.DEFINE_list(
  'exclude_genres', [], 'Genres to drop, such as N/A.'
)
_GENRE_NAMES = flags.DEFINE_string(
  'genre_names',
  None,
  'Text file of genres to rename, with lines such as `Sci-Fi = Science'
  ' Fiction`.',
)
_MAX_SIDE = flags.DEFINE_integer(
  'max_side',
  None,
  'Scale larger images down to this longer side, in pixels; default: keep.',
  lower_bound=16,
)
_ON_ERROR = flags.DEFINE_enum(
  'on_error',
  'fail',
  ['fail', 'skip'],
  'What to do if rows or images cannot be used. They are counted and listed in'
  ' a file in both cases.',
)
_READ_TEXT = flags.DEFINE_bool(
  'read_text',
  False,
  'Read the text on the posters and store it with them; without --csv, --images'
  ' and --synthetic, add it to the dataset in --data_dir. An interrupted run'
  ' resumes.',
)
_TEXT_READER = flags.DEFINE_string(
  'text_reader',
  None,
  'Custom engine for --read_text, module:attribute; default: RapidOCR,'
  " which needs pip install -e '.[ocr]'.",
)
_OVERWRITE = flags.DEFINE_bool(
  'overwrite', False, 'Replace another dataset in --data_dir.'
)
_VERIFY = flags.DEFINE_bool(
  'verify',
  False,
  'Compare all files of the dataset in --data_dir with their checksums, and'
  ' write nothing.',
)
_DRY_RUN = flags.DEFINE_bool(
  'dry_run', False, 'Validate everything, print the card, and write nothing.'
)
# Of rows, images and splits, which a dataset has already.
_OF_SOURCES = (
  *(_FORMAT, _ID_COLUMN, _GENRE_COLUMN, _LABEL_COLUMNS, _IMAGE_COLUMN),
  *(_IMAGE_PATTERN, _EXTRA_COLUMNS, _SPLIT_COLUMN, _SEPARATOR),
  *(_GENRE_SEPARATOR, _KEEP_NA, _SPLITS, _EXCLUDE_GENRES, _GENRE_NAMES),
  *(_MAX_SIDE, _ON_ERROR),
)


def main(argv: list[str]) -> None:
  command_line.refuse_arguments(argv)
  if not _DATA_DIR.value:
    raise errors.InputError(
      '--data_dir is empty: name the folder to write the dataset to.'
    )
  data_dir = os.path.expanduser(_DATA_DIR.value)
  if _TEXT_READER.value and not _READ_TEXT.value:
    raise errors.InputError('--text_reader needs --read_text.')
  if _VERIFY.value:
    _verify(data_dir)
    return
  is_extension = _READ_TEXT.value and not (
    _CSV.value or _IMAGES.value or _SYNTHETIC.value
  )
  card = _extend(data_dir) if is_extension else _build(data_dir)
  print(data_card.to_markdown(card))
  if _DRY_RUN.value:
    print('Dry run: no dataset was written.')
    return
  print(
    f'The dataset is in {storage.dataset_path(data_dir)}. Train on it with:\n'
    '  python -m genre_flax.main --config=configs/poster_cnn.py'
    f' --workdir=WORKDIR --config.dataset.data_dir={shlex.quote(data_dir)}'
  )


def _extend(data_dir: str) -> dict[str, Any]:
  given = [f'--{flag.name}' for flag in _OF_SOURCES if flag.present]
  if given:
    raise errors.InputError(
      f'--read_text alone adds text to the dataset in {data_dir}, whose posters'
      f' stay; omit {" and ".join(given)}, or give --csv and --images.'
    )
  return extension.extend(
    data_dir,
    text_reader=_TEXT_READER.value or '',
    overwrite=_OVERWRITE.value,
    dry_run=_DRY_RUN.value,
    progress=_progress_bar,
  )


def _build(data_dir: str) -> dict[str, Any]:
  options = {
    'data_dir': data_dir,
    'shares': splits.parse_shares(_SPLITS.value),
    'exclude_genres': _EXCLUDE_GENRES.value,
    'genre_names': (
      sources.read_genre_names(os.path.expanduser(_GENRE_NAMES.value))
      if _GENRE_NAMES.value
      else None
    ),
    'max_side': _MAX_SIDE.value,
    'skip_bad': _ON_ERROR.value == 'skip',
    'overwrite': _OVERWRITE.value,
    'dry_run': _DRY_RUN.value,
    'progress': _progress_bar,
    'text_reader': (_TEXT_READER.value or '') if _READ_TEXT.value else None,
  }
  if _SYNTHETIC.value:
    if _CSV.value or _IMAGES.value or _EXTRA_COLUMNS.value:
      raise errors.InputError(
        'Give either --synthetic, or --csv and --images (with'
        ' --extra_columns), not both.'
      )
    return build.build_synthetic(num_posters=_SYNTHETIC.value, **options)
  return build.build(*_sources_from_flags(), **options)


def _verify(data_dir: str) -> None:
  others = (_CSV, _IMAGES, _SYNTHETIC, _READ_TEXT)
  given = [f'--{flag.name}' for flag in others if flag.value]
  if given:
    raise errors.InputError(
      f'--verify reads the dataset in --data_dir; omit {" and ".join(given)}.'
    )
  dataset = storage.open_dataset(data_dir)
  dataset.verify(progress=_progress_bar)
  size = sum(entry['bytes'] for entry in dataset.manifest.values())
  print(
    f'All {len(dataset.manifest)} files of {storage.dataset_path(data_dir)}'
    f' ({size / 1e6:,.1f} MB) match their checksums.'
  )


def _sources_from_flags() -> list[sources.Source]:
  if not _IMAGES.value:
    raise errors.InputError(
      '--images is missing: name the folder of images, and the CSV file with'
      ' --csv, or try synthetic posters with --synthetic=600.'
    )
  layout = None if _CSV.value else _FORMAT.value
  tables = _CSV.value or _IMAGES.value
  if len(tables) != len(_IMAGES.value):
    raise errors.InputError(
      f'Got {len(_CSV.value)} --csv and {len(_IMAGES.value)} --images; give one'
      ' folder of images for each CSV file, in the same order.'
    )
  pattern = _IMAGE_PATTERN.value
  if columns.image_path(pattern, '1') == columns.image_path(pattern, '2'):
    raise errors.InputError(
      f'--image_pattern={pattern}: expected {{id}} in place of the'
      " film's id, or {id:07d}; the default is '{id}.jpg'."
    )
  extra_columns.check_names(_EXTRA_COLUMNS.value)
  labels = _LABEL_COLUMNS.value
  given = columns.Columns(
    id=_ID_COLUMN.value,
    genre=_GENRE_COLUMN.value,
    labels=None if labels is None else tuple(filter(None, labels)),
    image=_IMAGE_COLUMN.value,
    image_pattern=pattern,
    extra=tuple(_EXTRA_COLUMNS.value),
    split=_SPLIT_COLUMN.value,
    separator=(_SEPARATOR.value or '').replace(r'\t', '\t') or None,
    genre_separator=_GENRE_SEPARATOR.value or None,
    keep_na=_KEEP_NA.value,
  )
  return [
    sources.Source(
      csv=epath.Path(os.path.expanduser(csv)),
      images=epath.Path(os.path.expanduser(images)),
      columns=given,
      layout=layout,
    )
    for csv, images in zip(tables, _IMAGES.value, strict=True)
  ]


def _progress_bar(items, total, description):
  """Shows a bar on a terminal, and infrequent lines in a log file."""
  interval = 0.1 if sys.stderr.isatty() else 10.0
  return tqdm.tqdm(items, description, total, unit='', mininterval=interval)


if __name__ == '__main__':
  command_line.run(main)
