"""Tests of building datasets."""

import csv
import io
import logging
import pwd
import re

from etils import epath
from PIL import Image
import pytest

from genre_flax.datasets.posters import build
from genre_flax.datasets.posters import data_card
from genre_flax.datasets.posters import images
from genre_flax.datasets.posters import sources
from genre_flax.datasets.posters import storage
from genre_flax.datasets.posters import synthetic
from genre_flax.inference import image_files
from genre_flax.runtime import errors

_GOOD = """Id,Genre,Split
a,Drama,train
b,Drama|N/A,validation
c,War,test
"""
_BAD = """d,,train
a,War,train
e,War,train
../x,War,train
f,War,train
"""
_BAD_KINDS = [
  (5, 'no genre'),
  (6, 'repeated id, other content'),
  (7, 'missing image'),
  (8, 'id with a path'),
  (9, 'not an image'),
]
_ALL_TRAIN = {'train': 100, 'validation': 0, 'test': 0}


@pytest.fixture
def source(tmp_path):
  """Valid posters; with _BAD, rows 5 to 9 are invalid."""
  folder = epath.Path(tmp_path) / 'source'
  (folder / 'images').mkdir(parents=True)
  for index, name in enumerate('abcd'):
    content = images.to_jpeg(Image.new('RGB', (8, 12), (60 * index, 9, 9)))
    (folder / 'images' / f'{name}.jpg').write_bytes(content)
  (folder / 'images' / 'f.jpg').write_bytes(b'<html>Not found</html>')
  (folder / 'posters.csv').write_text(_GOOD)
  return sources.Source(folder / 'posters.csv', folder / 'images')


@pytest.fixture
def data_dir(tmp_path):
  return epath.Path(tmp_path) / 'data'


def _kinds(path):
  rows = csv.DictReader(io.StringIO(path.read_text()))
  return [(int(row['row']), row['kind']) for row in rows]


def _names(folder):
  return [path.name for path in folder.iterdir() if path.name != '.lock']


def test_posters_become_a_dataset(source, data_dir, caplog):
  caplog.set_level(logging.INFO)
  card = build.build(source, data_dir=data_dir)
  dataset = storage.open_dataset(data_dir)
  assert dataset.card == card
  assert dataset.genres == ('Drama', 'War')
  ids = {name: dataset.open_split(name)[0].id for name in card['splits']}
  assert ids == {'train': 'a', 'validation': 'b', 'test': 'c'}
  assert _names(data_dir) == ['posters']
  assert 'already' not in caplog.text
  build.build(source, data_dir=data_dir)
  assert f'{data_dir} contains this dataset already' in caplog.text


def test_genres_are_excluded_and_images_scaled(source, data_dir):
  source.csv.write_text(_GOOD + 'd,N/A,train\n')
  card = build.build(
    source, data_dir=data_dir, exclude_genres=['N/A'], max_side=6
  )
  assert card['genres'] == ['Drama', 'War']
  assert card['image_size']['num_reencoded'] == 3
  assert card['excluded_rows'] == 1
  record = storage.open_dataset(data_dir).open_split('train')[0]
  image, _ = images.open_rgb(record.image)
  assert image.size == (4, 6)
  # The converted images are deleted, and there is no list of problems.
  assert _names(data_dir / 'posters') == ['1.0.0']
  assert _names(data_dir) == ['posters']


def test_all_problems_are_reported_and_an_existing_dataset_is_kept(
  source, data_dir
):
  card = build.build(source, data_dir=data_dir)
  source.csv.write_text(_GOOD + _BAD)
  with pytest.raises(errors.InputError) as error:
    build.build(source, data_dir=data_dir, overwrite=True)
  message = str(error.value)
  full_list = data_dir / 'problems.csv'
  for row, kind in _BAD_KINDS:
    assert f'     1  {kind}\n' in message
    assert f'{source.csv}, row {row}: ' in message
  for words in (
    '5 problem(s)',
    f'The full list is in {full_list}.',
    'No dataset was written',
    '--on_error=skip',
  ):
    assert words in message
  assert _kinds(full_list) == _BAD_KINDS
  assert storage.open_dataset(data_dir).card == card
  # The list is deleted once they are corrected.
  source.csv.write_text(_GOOD)
  build.build(source, data_dir=data_dir, dry_run=True)
  assert full_list.exists()
  build.build(source, data_dir=data_dir)
  assert not full_list.exists()


def test_bad_rows_can_be_skipped(source, data_dir, caplog):
  source.csv.write_text(_GOOD + _BAD)
  card = build.build(source, data_dir=data_dir, skip_bad=True)
  assert card['num_examples'] == 3
  assert card['skipped'] == {kind: 1 for _, kind in sorted(_BAD_KINDS)}
  assert '5 problem(s)' in caplog.text
  assert 'These rows are skipped.' in caplog.text
  folder = storage.dataset_path(data_dir)
  assert _kinds(folder / 'skipped.csv') == _BAD_KINDS
  assert _kinds(data_dir / 'problems.csv') == _BAD_KINDS
  source.csv.write_text('Id,Genre\ne,War\n')
  with pytest.raises(errors.InputError, match='No posters are left'):
    build.build(source, data_dir=data_dir, skip_bad=True)
  assert storage.open_dataset(data_dir).card == card


def test_a_dry_run_returns_the_card_and_writes_nothing(
  source, data_dir, caplog
):
  source.csv.write_text(_GOOD + _BAD)
  with pytest.raises(errors.InputError, match='5 problem') as error:
    build.build(source, data_dir=data_dir, dry_run=True)
  card = build.build(source, data_dir=data_dir, dry_run=True, skip_bad=True)
  words = f'Without --dry_run the full list is written to {data_dir}'
  assert words in str(error.value) and words in caplog.text
  assert not data_dir.exists()
  assert build.build(source, data_dir=data_dir, skip_bad=True) == card


def test_synthetic_posters_are_generated_once(data_dir, monkeypatch):
  card = build.build_synthetic(data_dir=data_dir, num_posters=40)
  assert card['num_examples'] == 40
  assert card['sources'][0]['csv'] == 'synthetic posters (number 40, seed 0)'
  monkeypatch.setattr(synthetic, 'write_posters', None)
  assert build.build_synthetic(data_dir=data_dir, num_posters=40) == card
  with pytest.raises(errors.InputError, match='number 40.*number 41.*workdir'):
    build.build_synthetic(data_dir=data_dir, num_posters=41)


def test_every_row_of_several_sources_is_counted(source, data_dir):
  """12 rows, four of which become posters."""
  second = source.csv.parent / 'second.csv'
  # A repeated row, a row without an image, and two with excluded genres only.
  source.csv.write_text(
    'Id,Genre\na,Drama\nb,War\nb,War\nc,Drama\ne,War\nd,Short\nx,Short\n'
  )
  # Two films of the first source with the same image, and an empty cell.
  second.write_text('Id,Genre\na,Drama\nb,War\nd,War\nf,\ny,Short\n')
  card = build.build(
    source,
    sources.Source(second, source.images),
    data_dir=data_dir,
    shares=_ALL_TRAIN,
    exclude_genres=['Short'],
    skip_bad=True,
  )
  outcomes = dict(data_card._row_outcomes(card))
  total = outcomes.pop('total')
  assert outcomes == {
    'poster in the dataset': 4,
    'repeated row': 1,
    'repeated film and image': 2,
    'only excluded genres': 3,
    'skipped: missing image': 1,
    'skipped: no genre': 1,
  }
  assert sum(outcomes.values()) == total == 12


@pytest.mark.parametrize(
  ('first_id', 'poster', 'words'),
  [
    (
      '1',
      'b.jpg',
      'are not in .*images. These flags .*: --image_column=Poster',
    ),
    ('1', 'x.jpg', 'Name a column of image paths with --image_column'),
    ('a', 'b.jpg', None),
  ],
)
def test_flags_are_suggested_if_most_images_are_missing(
  source, data_dir, first_id, poster, words
):
  source.csv.write_text(
    f'Id,Genre,Poster\n{first_id},Drama,a.jpg\n2,War,{poster}\n'
  )
  with pytest.raises(errors.InputError) as error:
    build.build(source, data_dir=data_dir)
  assert bool(words) == ('Most images of' in str(error.value))
  assert re.search(words or '', str(error.value))


def test_files_of_owners_without_a_name_are_read(source, data_dir, monkeypatch):
  def raise_key_error(number):
    raise KeyError(f'uid not found: {number}')

  monkeypatch.setattr(pwd, 'getpwuid', raise_key_error)
  build.build(source, data_dir=data_dir)
  storage.open_dataset(data_dir).verify()
  [path] = image_files.find([str(source.images / 'a.jpg')])
  assert image_files.decode(path, (12, 8)).shape == (12, 8, 3)
