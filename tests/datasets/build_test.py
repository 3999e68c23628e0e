"""Tests of making a data set from start to end."""

import csv
import io
import logging

from etils import epath
from PIL import Image
import pytest

from genre_flax.datasets.posters import build
from genre_flax.datasets.posters import collection
from genre_flax.datasets.posters import data_card
from genre_flax.datasets.posters import images
from genre_flax.datasets.posters import sources
from genre_flax.datasets.posters import storage
from genre_flax.datasets.posters import synthetic
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


@pytest.fixture
def source(tmp_path):
  """Good posters; with _BAD, row 5 to 9 are bad ones."""
  folder = epath.Path(tmp_path) / 'source'
  (folder / 'images').mkdir(parents=True)
  for index, name in enumerate('abcd'):
    content = images.to_jpeg(Image.new('RGB', (8, 12), (60 * index, 9, 9)))
    (folder / 'images' / f'{name}.jpg').write_bytes(content)
  (folder / 'images' / 'f.jpg').write_bytes(b'<html>Not found</html>')
  (folder / 'posters.csv').write_text(_GOOD)
  return sources.Source(folder / 'posters.csv', folder / 'images')


@pytest.fixture
def bad_source(source):
  source.csv.write_text(_GOOD + _BAD)
  return source


@pytest.fixture
def data_dir(tmp_path):
  return epath.Path(tmp_path) / 'data'


def _kinds(path):
  rows = csv.DictReader(io.StringIO(path.read_text()))
  return [(int(row['row']), row['kind']) for row in rows]


_BAD_KINDS = [
  (5, 'no genre'),
  (6, 'repeated id, other content'),
  (7, 'missing image'),
  (8, 'id with a path'),
  (9, 'not an image'),
]


def _names(folder):
  return [path.name for path in folder.iterdir() if path.name != '.lock']


def test_good_posters_become_a_data_set(source, data_dir):
  card = build.build(source, data_dir=data_dir)
  dataset = storage.open_dataset(data_dir)
  assert dataset.card == card
  assert dataset.genres == ('Drama', 'N/A', 'War')
  ids = {name: dataset.open_split(name)[0].id for name in card['splits']}
  assert ids == {'train': 'a', 'validation': 'b', 'test': 'c'}
  assert _names(data_dir) == ['posters']


def test_options_reach_the_data_set(source, data_dir):
  card = build.build(
    source, data_dir=data_dir, exclude_genres=['N/A'], max_side=6
  )
  assert card['genres'] == ['Drama', 'War']
  assert card['image_size']['num_reencoded'] == 3
  record = storage.open_dataset(data_dir).open_split('train')[0]
  image, _ = images.open_rgb(record.image)
  assert image.size == (4, 6)


def test_a_second_run_says_that_all_is_there(source, data_dir, caplog):
  caplog.set_level(logging.INFO)
  build.build(source, data_dir=data_dir)
  assert 'already' not in caplog.text
  build.build(source, data_dir=data_dir)
  assert f'{data_dir} holds this very data set already' in caplog.text


def test_all_is_read_before_problems_are_told(bad_source, data_dir):
  with pytest.raises(errors.InputError) as error:
    build.build(bad_source, data_dir=data_dir)
  message = str(error.value)
  full_list = data_dir / 'problems.csv'
  assert '5 problem(s)' in message
  for _, kind in _BAD_KINDS:
    assert f'     1  {kind}\n' in message
  for row in range(5, 10):
    assert f'{bad_source.csv}, row {row}: ' in message
  assert f'All are in {full_list}.' in message
  assert 'Nothing was prepared' in message
  assert '--on_error=skip' in message
  assert _kinds(full_list) == _BAD_KINDS
  assert _names(data_dir) == ['problems.csv']


def test_problems_are_told_even_if_the_list_cannot_be_written(
  bad_source, data_dir
):
  (data_dir / 'problems.csv').mkdir(parents=True)
  with pytest.raises(errors.InputError) as error:
    build.build(bad_source, data_dir=data_dir)
  assert '5 problem(s)' in str(error.value)
  assert 'could not be listed' in str(error.value)


def test_problems_leave_an_earlier_data_set_alone(source, data_dir):
  card = build.build(source, data_dir=data_dir)
  source.csv.write_text(_GOOD + _BAD)
  with pytest.raises(errors.InputError, match='5 problem'):
    build.build(source, data_dir=data_dir, overwrite=True)
  assert storage.open_dataset(data_dir).card == card


def test_skipping_goes_on_without_bad_rows(bad_source, data_dir, caplog):
  card = build.build(bad_source, data_dir=data_dir, skip_bad=True)
  assert card['num_examples'] == 3
  assert card['skipped'] == {kind: 1 for _, kind in sorted(_BAD_KINDS)}
  assert '5 problem(s)' in caplog.text
  assert f'All are in {data_dir / "problems.csv"}.' in caplog.text
  assert 'Going on without them.' in caplog.text
  folder = storage.dataset_path(data_dir)
  assert _kinds(folder / 'skipped.csv') == _BAD_KINDS
  assert _kinds(data_dir / 'problems.csv') == _BAD_KINDS


def test_skipping_everything_is_refused(bad_source, data_dir):
  bad_source.csv.write_text('Id,Genre\ne,War\n')
  with pytest.raises(errors.InputError, match='No poster is left'):
    build.build(bad_source, data_dir=data_dir, skip_bad=True)
  assert not storage.dataset_path(data_dir).exists()


def test_the_list_of_problems_goes_when_they_are_mended(bad_source, data_dir):
  with pytest.raises(errors.InputError):
    build.build(bad_source, data_dir=data_dir)
  bad_source.csv.write_text(_GOOD)
  build.build(bad_source, data_dir=data_dir, dry_run=True)
  assert (data_dir / 'problems.csv').exists()
  build.build(bad_source, data_dir=data_dir)
  assert not (data_dir / 'problems.csv').exists()


@pytest.mark.parametrize('skip_bad', [False, True])
def test_a_dry_run_with_problems_writes_nothing(
  bad_source, data_dir, caplog, skip_bad
):
  if skip_bad:
    card = build.build(
      bad_source, data_dir=data_dir, dry_run=True, skip_bad=True
    )
    assert card['num_examples'] == 3
    message = caplog.text
  else:
    with pytest.raises(errors.InputError) as error:
      build.build(bad_source, data_dir=data_dir, dry_run=True)
    message = str(error.value)
  assert '5 problem(s)' in message
  assert f'Without --dry_run all are written to {data_dir}' in message
  assert not data_dir.exists()


def test_a_dry_run_gives_the_card_and_writes_nothing(source, data_dir):
  card = build.build(source, data_dir=data_dir, dry_run=True)
  assert not data_dir.exists()
  assert build.build(source, data_dir=data_dir) == card


def test_a_data_dir_that_is_a_file_is_refused_before_anything_is_read(
  source, data_dir, monkeypatch
):
  data_dir.write_text('')
  monkeypatch.setattr(images, 'check', None)
  with pytest.raises(errors.InputError, match='is a file; expected a folder'):
    build.build(source, data_dir=data_dir)


def test_converted_images_are_thrown_away_in_the_end(
  source, data_dir, monkeypatch
):
  used = []

  def collect(*args, spool, **kwargs):
    used.append(spool)
    return collection_collect(*args, spool=spool, **kwargs)

  collection_collect = collection.collect
  monkeypatch.setattr(collection, 'collect', collect)
  build.build(source, data_dir=data_dir, max_side=6)
  # Where there is room for the data set, there is room for them.
  assert data_dir in used[0].parents
  assert not used[0].exists()


def test_synthetic_posters_are_drawn_once(data_dir, monkeypatch):
  card = build.build_synthetic(data_dir=data_dir, num_posters=40)
  assert card['num_examples'] == 40
  assert card['sources'][0]['csv'] == 'synthetic posters (number 40, seed 0)'
  monkeypatch.setattr(synthetic, 'write_posters', None)
  assert build.build_synthetic(data_dir=data_dir, num_posters=40) == card
  with pytest.raises(errors.InputError, match='number 40.*number 41.*workdir'):
    build.build_synthetic(data_dir=data_dir, num_posters=41)


def test_other_synthetic_posters_are_refused_until_overwrite(data_dir):
  shares = {'train': 100, 'validation': 0, 'test': 0}
  build.build_synthetic(data_dir=data_dir, num_posters=3, shares=shares)
  with pytest.raises(errors.InputError, match='holds another data set'):
    build.build_synthetic(data_dir=data_dir, num_posters=4, shares=shares)
  card = build.build_synthetic(
    data_dir=data_dir, num_posters=4, shares=shares, overwrite=True
  )
  assert storage.open_dataset(data_dir).card == card
  assert card['num_examples'] == 4


def test_options_of_synthetic_posters_are_not_lost(data_dir):
  shares = {'train': 100, 'validation': 0, 'test': 0}
  card = build.build_synthetic(
    data_dir=data_dir, num_posters=3, shares=shares, max_side=60, dry_run=True
  )
  assert list(card['splits']) == ['train']
  assert card['image_size']['height']['max'] == 60
  assert not data_dir.exists()
  build.build_synthetic(data_dir=data_dir, num_posters=3, shares=shares)
  # The same posters by name, but not the same data set.
  with pytest.raises(errors.InputError, match='holds another data set'):
    build.build_synthetic(
      data_dir=data_dir, num_posters=3, shares=shares, max_side=60
    )


def _rows(card):
  """Rows that were read, and what the card says became of them."""
  fates = dict(data_card._fates(card))
  return fates.pop('rows in all'), fates


def test_every_row_is_accounted_for_in_several_sources(tmp_path):
  """By hand: 12 rows of which four become posters."""
  folder = epath.Path(tmp_path)
  (folder / 'images').mkdir()
  for index, name in enumerate('abcd'):
    content = images.to_jpeg(Image.new('RGB', (8, 12), (60 * index, 9, 9)))
    (folder / 'images' / f'{name}.jpg').write_bytes(content)
  first, second = folder / 'first.csv', folder / 'second.csv'
  # One row twice, one without a picture, two of excluded genres alone.
  first.write_text(
    'Id,Genre\na,Drama\nb,War\nb,War\nc,Drama\ne,War\nd,Short\nx,Short\n'
  )
  # Two films that the first has too, with the same picture; an empty cell.
  second.write_text('Id,Genre\na,Drama\nb,War\nd,War\nf,\ny,Short\n')
  card = build.build(
    sources.Source(first, folder / 'images'),
    sources.Source(second, folder / 'images'),
    data_dir=folder / 'data',
    shares={'train': 100, 'validation': 0, 'test': 0},
    exclude_genres=['Short'],
    skip_bad=True,
  )
  num_rows, fates = _rows(card)
  assert fates == {
    'posters of the data set': 4,
    'the same row again': 1,
    'the same film and picture again': 2,
    'excluded genres alone': 3,
    'skipped: missing image': 1,
    'skipped: no genre': 1,
  }
  assert sum(fates.values()) == num_rows == 12


def test_excluded_rows_are_no_problems(source, data_dir):
  source.csv.write_text(_GOOD + 'd,N/A,train\n')
  card = build.build(source, data_dir=data_dir, exclude_genres=['N/A'])
  assert card['num_examples'] == 3
  assert card['excluded_rows'] == 1
  assert not (data_dir / 'problems.csv').exists()


@pytest.mark.parametrize('skip_bad', [False, True])
def test_the_column_that_names_the_files_is_named(source, data_dir, skip_bad):
  source.csv.write_text(
    'Id,Genre,Poster,Title\n1,Drama,a.jpg,x\n2,War,b.jpg,y\n3,War,z.jpg,z\n'
  )
  with pytest.raises(errors.InputError) as e:
    build.build(source, data_dir=data_dir, skip_bad=skip_bad)
  if not skip_bad:
    assert (
      f"The column 'Poster' of {source.csv} names files that are in"
      f' {source.images}: pass --image_column=Poster.'
    ) in str(e.value)
    assert 'Title' not in str(e.value)


def test_no_column_is_named_where_some_images_are_found(source, data_dir):
  source.csv.write_text('Id,Genre,Poster\na,Drama,a.jpg\n2,War,b.jpg\n')
  with pytest.raises(errors.InputError) as e:
    build.build(source, data_dir=data_dir)
  assert 'image_column' not in str(e.value)
