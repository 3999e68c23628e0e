"""Tests of extra columns, from a table to the records."""

import csv
import io

from etils import epath
import numpy as np
from PIL import Image
import pytest

from genre_flax.datasets.posters import build
from genre_flax.datasets.posters import columns
from genre_flax.datasets.posters import extra_columns
from genre_flax.datasets.posters import images
from genre_flax.datasets.posters import sources
from genre_flax.datasets.posters import storage
from genre_flax.runtime import errors

TABLE = """Id,Genre,Split,year,country,is_sequel
a,Drama,train,1990,US,0
b,Drama,train,,FR,1
c,War,train,2001,,1
d,War,train,2000,US,
e,War,validation,1985,IT,0
f,War,test,,,0
"""
NAMES = ('year', 'country', 'is_sequel')


def prepare(tmp_path, table=TABLE, names=NAMES, **options):
  folder = epath.Path(tmp_path)
  for index, name in enumerate('abcdef'):
    content = images.to_jpeg(Image.new('RGB', (8, 12), (40 * index, 9, 9)))
    (folder / f'{name}.jpg').write_bytes(content)
  (folder / 'posters.csv').write_text(table)
  labels = None if 'is_sequel' in names else ()
  source = sources.Source(
    folder / 'posters.csv', folder, columns.Columns(labels=labels, extra=names)
  )
  return build.build(source, data_dir=folder / 'data', **options)


def test_values_are_stored_with_defaults_of_the_training_split(tmp_path):
  card = prepare(tmp_path)
  assert card['genres'] == ['Drama', 'War']  # is_sequel is no label.
  dataset = storage.open_dataset(tmp_path / 'data')
  # 1997 is the mean of 1990, 2001 and 2000; 2/3 that of 0, 1 and 1.
  assert dataset.extra_columns == (
    extra_columns.ExtraColumn('year', None, 1997.0),
    extra_columns.ExtraColumn('country', ('FR', 'US'), 0.0),
    extra_columns.ExtraColumn('is_sequel', None, 2 / 3),
  )
  found = {}
  for split in dataset.card['splits']:
    opened = dataset.open_split(split)
    for record in map(opened.__getitem__, range(len(opened))):
      assert [value.dtype.name for value in record.extra.values()] == [
        'float32',
        'int32',
        'float32',
      ]
      found[record.id] = [record.extra[name].item() for name in NAMES]
  assert found == {
    'a': [1990, 2, 0],
    'b': [1997, 1, 1],
    'c': [2001, 0, 1],
    'd': [2000, 2, np.float32(2 / 3)],
    'e': [1985, 0, 0],
    'f': [1997, 0, 0],
  }


def test_missing_and_unknown_values_are_listed_in_the_card(tmp_path):
  card = prepare(tmp_path)
  assert [
    (one['name'], one['missing'], one['unknown'])
    for one in card['extra_columns']
  ] == [
    ('year', ['b', 'f'], []),
    ('country', ['c', 'f'], ['e']),
    ('is_sequel', ['d'], []),
  ]
  path = storage.dataset_path(tmp_path / 'data') / 'data_card.md'
  for row in (
    '- Extra column year: numbers, by default 1997; 2 posters without a value,'
    ' 0 with an unknown category',
    '- Extra column country: 2 categories, by default 0; 2 posters without a'
    ' value, 1 with an unknown category',
  ):
    assert row in path.read_text()


def test_the_fingerprint_depends_on_the_values(tmp_path):
  def fingerprint(table, names):
    return prepare(tmp_path, table, names, dry_run=True)['fingerprint']

  changed = TABLE.replace('1990', '1991')
  assert fingerprint(TABLE, ()) == fingerprint(changed, ())
  found = {fingerprint(t, n) for t in (TABLE, changed) for n in ((), ('year',))}
  assert len(found) == 3


@pytest.mark.parametrize(
  ('table', 'names', 'message'),
  [
    (TABLE, ('Budget',), "no column 'Budget'"),
    (
      TABLE.replace('2001', '2001?'),
      NAMES,
      "row 4: column 'year' is '2001\\?'",
    ),
    (TABLE.replace('2001', 'inf'), NAMES, "'inf'; expected a number"),
    (f'{TABLE}a,Drama,train,1991,US,0\n', NAMES, 'also in row 2.*1990.*1991'),
    (
      'Id,Genre,Split,year\na,War,train,\nb,War,val,\nc,War,test,\n',
      ('year',),
      "All cells .* 'year' are empty",
    ),
  ],
)
def test_unusable_columns_are_refused(tmp_path, table, names, message):
  with pytest.raises(errors.InputError, match=message):
    prepare(tmp_path, table, names)


@pytest.mark.parametrize(
  'names', [['release year'], ['labels'], ['train'], ['year', 'year']]
)
def test_names_are_parameters_of_a_network(names):
  with pytest.raises(errors.InputError, match=f'{names[0]!r} cannot be'):
    extra_columns.check_names(names)


def test_a_record_without_the_column_is_damaged(tmp_path):
  prepare(tmp_path, names=())
  dataset = storage.open_dataset(tmp_path / 'data')
  dataset.card['extra_columns'] = [
    {'name': 'year', 'categories': None, 'default': 0.0}
  ]
  with pytest.raises(errors.DamageError, match="cannot be read: 'year'"):
    dataset.open_split('train')


def test_problems_of_numbers_are_listed(tmp_path):
  with pytest.raises(errors.InputError):
    prepare(tmp_path, TABLE.replace('2001', 'n/a'))
  listed = (epath.Path(tmp_path) / 'data' / 'problems.csv').read_text()
  [row] = csv.DictReader(io.StringIO(listed))
  assert (row['row'], row['kind']) == ('4', 'not a number')
