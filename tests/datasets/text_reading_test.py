"""Tests of datasets with the text on their posters."""

import importlib.util
import itertools
import json
import logging
import sqlite3

from array_record.python import array_record_module
from etils import epath
import numpy as np
from PIL import Image
from PIL import ImageDraw
from PIL import ImageFont
import pytest
import tensorflow_datasets as tfds
from tensorflow_datasets.proto import tf_example_pb2

from genre_flax.datasets.posters import build as build_lib
from genre_flax.datasets.posters import columns
from genre_flax.datasets.posters import data_card
from genre_flax.datasets.posters import extension
from genre_flax.datasets.posters import images
from genre_flax.datasets.posters import poster_text
from genre_flax.datasets.posters import sources
from genre_flax.datasets.posters import storage
from genre_flax.datasets.posters import text_cache
from genre_flax.datasets.posters import text_reading
from genre_flax.runtime import errors
from genre_flax.runtime import threads
from tests.support import prepared
from tests.support import text_engines

_NUM_POSTERS = 12


def engine(cls):
  return f'tests.support.text_engines:{cls.__name__}'


COLORS = engine(text_engines.Colors)


@pytest.fixture(autouse=True)
def _environment(tmp_path, monkeypatch):
  monkeypatch.setenv('XDG_CACHE_HOME', str(tmp_path / 'cache'))
  monkeypatch.setenv(text_engines.CALLS, str(tmp_path / 'calls'))


@pytest.fixture(scope='module')
def source(tmp_path_factory):
  """Posters of increasing brightness; the last row has no image."""
  folder = epath.Path(tmp_path_factory.mktemp('source'))
  (folder / 'images').mkdir()
  rows = ['id,genre,Split,year,country']
  split = itertools.cycle(['train', 'train', 'validation', 'test'])
  for i in range(_NUM_POSTERS):
    image = Image.new('RGB', (8, 12), (20 * i, 9, 9))
    (folder / 'images' / f'p{i}.jpg').write_bytes(images.to_jpeg(image))
    genre = 'Drama|War' if i % 3 == 0 else 'Drama' if i < 5 else 'War'
    year, country = 1990.1 + i if i else '', ['', 'FR', 'US'][i % 3]
    rows.append(f'p{i},{genre},{next(split)},{year},{country}')
  rows.append('"=p|<b>",Drama,train,2000,US')
  (folder / 'posters.csv').write_text('\n'.join(rows))
  return sources.Source(
    folder / 'posters.csv',
    folder / 'images',
    columns.Columns(extra=('year', 'country')),
  )


@pytest.fixture
def data_dir(tmp_path):
  return epath.Path(tmp_path) / 'data'


def build(source, data_dir, text_reader=COLORS, **options):
  return build_lib.build(
    source,
    data_dir=data_dir,
    skip_bad=True,
    text_reader=text_reader,
    **options,
  )


def contents(data_dir):
  """All files; records are parsed, since the order of their fields varies."""
  folder = storage.dataset_path(data_dir)
  found = {}
  for path in folder.iterdir():
    if 'array_record' in path.name:
      reader = array_record_module.ArrayRecordReader(str(path))
      parse = tf_example_pb2.Example.FromString
      found[path.name] = [parse(record) for record in reader.read_all()]
    elif path.name != 'checksums.json':
      found[path.name] = path.read_bytes()
  return found


def records(data_dir):
  dataset = storage.open_dataset(data_dir)
  splits = [dataset.open_split(name) for name in dataset.card['splits']]
  return {split[i].id: split[i] for split in splits for i in range(len(split))}


def test_records_and_card_have_the_text(source, data_dir):
  plain = build(source, data_dir / 'plain', None)
  card = build(source, data_dir)
  assert 'text' not in plain
  assert card['base_fingerprint'] == plain['fingerprint'] != card['fingerprint']
  assert card['text'] == {
    'engine': 'colors 1',
    'num_with_text': {'test': 3, 'train': 6, 'validation': 3},
    # 'dark red 0', 4 like 'dark red 20', 7 like 'bright red 100'; 'In cinemas'.
    'mean_characters': round((10 + 4 * 11 + 7 * 14) / 12 + 10, 1),
    # Of p0, p1, p4, p5, p8 and p9, three are dark, and of Drama.
    'words': {'Drama': ['dark'], 'War': ['bright']},
    'failed': [],
  }
  stored = records(data_dir)
  assert len(stored) == _NUM_POSTERS
  red = {name: 20 * int(name[1:]) for name in stored}
  for name, record in stored.items():
    word = 'dark' if red[name] < 100 else 'bright'
    assert record.text == (
      (f'{word} red {red[name]}', 0.988, (0.1235, 0.0, 1.0, 0.5)),
      ('In cinemas', 1.0, (0.0, 0.5, 1.0, 1.0)),
    )
  assert all(r.text == () for r in records(data_dir / 'plain').values())
  # As read by TFDS.
  source = tfds.builder_from_directory(
    str(storage.dataset_path(data_dir))
  ).as_data_source('train')
  text = source[0]['text']
  assert text['line'][1] == b'In cinemas'
  assert np.shape(text['box']) == (2, 4)


def test_an_extended_dataset_is_that_of_a_whole_prepare(source, tmp_path):
  fresh, extended = tmp_path / 'fresh', tmp_path / 'extended'
  build(source, fresh)
  assert text_engines.num_calls() == _NUM_POSTERS
  build(source, extended, None)
  before = contents(extended)
  card = extension.extend(extended, text_reader=COLORS)
  assert card == storage.open_dataset(extended).card
  # The text is in the cache.
  assert text_engines.num_calls() == _NUM_POSTERS
  assert contents(extended) == contents(fresh)
  assert contents(extended)['skipped.csv'] == before['skipped.csv']
  assert b'=p|<b>' in before['skipped.csv']


def test_text_is_added_once_and_replaced_with_overwrite_only(
  source, data_dir, caplog
):
  caplog.set_level(logging.INFO)
  build(source, data_dir, None)
  # The same posters without text may be replaced.
  card = build(source, data_dir)
  before = prepared.files(data_dir)
  assert build(source, data_dir) == card
  assert build(source, data_dir, None) == card
  assert caplog.text.count('contains this dataset already') == 2
  assert extension.extend(data_dir, text_reader=COLORS) == card
  assert 'contains the text on its posters already' in caplog.text
  others = engine(text_engines.Others)
  with pytest.raises(errors.InputError, match="'colors 1', not of 'others 2'"):
    extension.extend(data_dir, text_reader=others)
  with pytest.raises(errors.InputError, match='another dataset'):
    build(source, data_dir, others)
  assert prepared.files(data_dir) == before
  replaced = extension.extend(data_dir, text_reader=others, overwrite=True)
  assert replaced['text']['engine'] == 'others 2'
  assert replaced['base_fingerprint'] == card['base_fingerprint']
  assert build(source, data_dir, None, overwrite=True).get('text') is None


def test_a_dry_run_counts_posters_and_writes_nothing(source, data_dir, caplog):
  caplog.set_level(logging.INFO)
  build(source, data_dir, dry_run=True)
  assert 'text on 12 posters would be read; that on 0 others' in caplog.text
  assert text_engines.num_calls() == 0
  assert not data_dir.exists()
  build(source, data_dir, None)
  before = prepared.files(data_dir)
  build(source, data_dir / 'other')
  extension.extend(data_dir, text_reader=COLORS, dry_run=True)
  assert 'text on 0 posters would be read; that on 12 others' in caplog.text
  assert {**prepared.files(data_dir), **before} == prepared.files(data_dir)
  assert storage.open_dataset(data_dir).card.get('text') is None


def _collect(source, data_dir):
  build(source, data_dir, None)
  dataset = storage.open_dataset(data_dir)
  return extension._collect(dataset, lambda items, *_: items).examples


def _read(examples, cls=text_engines.Colors):
  with text_reading.TextReader(engine(cls)) as reader:
    return list(reader.read_all(examples))


def test_an_interrupted_run_resumes(source, data_dir):
  examples = _collect(source, data_dir)
  with text_reading.TextReader(COLORS) as reader:
    found = reader.read_all(examples)
    first = list(itertools.islice(found, 5))
    found.close()
  done = text_engines.num_calls()
  texts = _read(examples)
  assert texts[:5] == first
  # At least those that were returned are not read again.
  assert text_engines.num_calls() <= done + _NUM_POSTERS - 5
  done = text_engines.num_calls()
  assert _read(examples) == texts
  assert text_engines.num_calls() == done


def test_a_damaged_cache_is_replaced(source, data_dir, tmp_path, caplog):
  examples = _collect(source, data_dir)
  texts = _read(examples)
  [cache] = (tmp_path / 'cache').rglob('*.sqlite')
  # Valid for SQLite, with another content than the stored one.
  with sqlite3.connect(cache) as connection:
    connection.execute(
      "UPDATE texts SET lines = replace(lines, 'dark red 0', 'dark red 1')"
    )
  connection.close()
  assert _read(examples) == texts
  assert text_engines.num_calls() == _NUM_POSTERS + 1
  assert 'is damaged' not in caplog.text
  content = cache.read_bytes()
  for damaged in (b'garbage' * 1000, content[:4096] + b'\xff' * 9000):
    cache.write_bytes(damaged)
    assert _read(examples) == texts
    assert 'is damaged' in caplog.text
    caplog.clear()
  assert text_engines.num_calls() == 3 * _NUM_POSTERS + 1


def test_an_unusable_cache_is_an_error(tmp_path, monkeypatch):
  (tmp_path / 'file').write_text('')
  monkeypatch.setenv('XDG_CACHE_HOME', str(tmp_path / 'file'))
  with pytest.raises(errors.StorageError, match='cannot be'):
    text_reading.TextReader(COLORS)


def test_posters_on_which_the_engine_fails_have_no_text(
  source, data_dir, caplog
):
  card = build(source, data_dir, engine(text_engines.BrightFails))
  failed = [f'p{i}' for i in (10, 11, *range(5, 10))]
  assert card['text']['failed'] == sorted(failed)
  assert card['text']['num_with_text'] == {
    'test': 1,
    'train': 3,
    'validation': 1,
  }
  assert 'failed on 7 of 12 posters' in caplog.text
  assert 'p10, p11, p5' in caplog.text
  assert 'ValueError: too bright' in caplog.text
  stored = records(data_dir)
  assert [bool(stored[name].text) for name in ('p4', 'p5')] == [True, False]
  markdown = storage.dataset_path(data_dir) / 'data_card.md'
  assert 'Posters on which the engine failed: 7\n' in markdown.read_text()


@pytest.mark.parametrize(
  ('cls', 'error', 'words'),
  [
    (text_engines.Fails, errors.InputError, 'on 12 of 12 .*SystemExit: no mo'),
    (
      text_engines.Dies,
      errors.ResourceError,
      "ended or .* while .* 'p\\d+' or one",
    ),
  ],
)
def test_an_engine_that_never_works_is_an_error(
  source, data_dir, cls, error, words
):
  with pytest.raises(error, match=words):
    build(source, data_dir, engine(cls))
  prepared.assert_no_dataset(data_dir)


def test_a_damaged_dataset_is_not_extended(source, data_dir):
  build(source, data_dir, None)
  [shard] = storage.dataset_path(data_dir).glob('*train.array_record*')
  prepared.flip_bit(shard)
  with pytest.raises(errors.DamageError, match='does not match its checksum'):
    extension.extend(data_dir, text_reader=COLORS)
  assert text_engines.num_calls() == 0


def test_hostile_text_is_cleaned_and_escaped(source, data_dir):
  card = build(source, data_dir, engine(text_engines.Hostile))
  [line] = records(data_dir)['p0'].text
  text = 'Kill[2J <script>alert(1)</script> | `a` *now*'
  assert line == poster_text.Line(text, 1.0, (0.0, 0.0, 1.0, 1.0))
  card['text']['words']['War'] = ['<script>', 'a|b']
  markdown = data_card.to_markdown(card)
  assert r'- Engine: hostile \| \<b\>' in markdown
  assert r'\<script\>, a\|b |' in markdown
  json.dumps(card).encode()


def test_an_extra_column_cannot_be_named_text(source, data_dir, tmp_path):
  path = epath.Path(tmp_path) / 'text.csv'
  path.write_text(source.csv.read_text().replace('year', 'text'))
  other = sources.Source(path, source.images, columns.Columns(extra=('text',)))
  with pytest.raises(errors.InputError, match='extra column `text`'):
    build(other, data_dir)
  assert text_engines.num_calls() == 0


@pytest.mark.skipif(
  not importlib.util.find_spec('rapidocr'), reason='rapidocr is not installed'
)
def test_rapidocr_reads_the_posters_of_a_dataset(data_dir, tmp_path):
  font = ImageFont.load_default(48)
  words = {'a': 'MIDNIGHT', 'b': 'RIVER', 'c': ''}
  for name, word in words.items():
    image = Image.new('RGB', (400, 300), 'navy')
    ImageDraw.Draw(image).text((40, 100), word, 'white', font)
    (tmp_path / f'{name}.jpg').write_bytes(images.to_jpeg(image))
  table = epath.Path(tmp_path) / 'posters.csv'
  table.write_text('id,genre\na,Drama\nb,War\nc,War\n')
  source = sources.Source(table, epath.Path(tmp_path))
  build(source, data_dir, '', shares={'train': 100, 'validation': 0, 'test': 0})
  for name, record in records(data_dir).items():
    assert [line.text for line in record.text] == [words[name]] * (name != 'c')


def test_several_processes_can_write_to_a_cache(tmp_path):
  line = poster_text.Line('a', 0.5, (0.0, 0.0, 1.0, 1.0))
  caches = [text_cache.TextCache(tmp_path / 'texts') for _ in range(2)]

  def write(number):
    for image in range(100):
      caches[number].put('engine', str(image), (line,) * (1 + number))
    caches[number].flush()

  list(threads.map_in_order(write, range(2)))
  assert {len(caches[0].get('engine', str(image))) for image in range(100)} <= {
    1,
    2,
  }
  assert caches[1].get('another', '0') is None
  for cache in caches:
    cache.close()
