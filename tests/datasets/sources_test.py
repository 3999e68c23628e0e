"""Tests of reading several CSV files as the sources of one dataset."""

from etils import epath
import pytest

from genre_flax.datasets.posters import sources
from genre_flax.runtime import errors


def _source(tmp_path, name, text):
  folder = epath.Path(tmp_path)
  (folder / name).mkdir()
  (folder / f'{name}.csv').write_text(text)
  return sources.Source(folder / f'{name}.csv', folder / name)


def _names(tmp_path, text):
  path = epath.Path(tmp_path) / 'names.txt'
  path.write_text(text)
  return sources.read_genre_names(path)


def test_genre_names_are_read(tmp_path):
  text = '# Old = new\n\nSci-Fi = Science Fiction\n  SF=War # of another\n'
  names = {'Sci-Fi': 'Science Fiction', 'SF': 'War'}
  assert _names(tmp_path, text) == names
  with pytest.raises(errors.InputError, match='--genre_names=.*none.txt'):
    sources.read_genre_names(tmp_path / 'none.txt')


@pytest.mark.parametrize(
  ('text', 'words'),
  [
    ('Sci-Fi\n', ["line 1: got 'Sci-Fi'", 'expected OLD NAME = NEW NAME']),
    ('\nA = B = C\n', ["line 2: got 'A = B = C'"]),
    ('A =\n', ["line 1: got 'A ='"]),
    ('= B\n', ["line 1: got '= B'"]),
    ('A = B\nA = C\n', ["line 2: 'A' is renamed to 'C', but to 'B' in an ear"]),
    ('A = B\nB = C\n', ["'A' is renamed to 'B', and 'B' to 'C'"]),
  ],
)
def test_invalid_genre_names_are_refused(tmp_path, text, words):
  with pytest.raises(errors.InputError) as error:
    _names(tmp_path, text)
  for word in ['names.txt', *words]:
    assert word in str(error.value)


@pytest.mark.parametrize(
  ('options', 'flag', 'genres'),
  [
    ({'exclude_genres': ['n/a']}, '--exclude_genres', ['Drama', 'War']),
    ({'genre_names': {'Sci-Fi': 'SF'}}, '--genre_names', ['Drama', 'War']),
    (
      {'genre_names': {'War': 'Fight'}, 'exclude_genres': ['War']},
      '--exclude_genres',
      ['Drama', 'Fight'],
    ),
  ],
)
def test_an_unknown_genre_is_refused(tmp_path, options, flag, genres):
  given = [
    _source(tmp_path, 'one', 'Id,Genre\na,Drama\n'),
    _source(tmp_path, 'two', 'Id,Genre\na,War\n'),
  ]
  with pytest.raises(errors.InputError) as error:
    sources.read(given, **options)
  for word in [f'{flag} has', f'among {genres}', 'one.csv and ']:
    assert word in str(error.value)


def test_unlikely_genres_are_noted(tmp_path, caplog):
  sources.read(
    [
      _source(tmp_path, 'one', 'Id,Genre\na,Sci-Fi\nb,Sci-Fi|T1\nc,T2|T3\n'),
      _source(tmp_path, 'two', 'Id,Genre\na,sci fi|T4\nb,NA|T5\n'),
    ]
  )
  for words in (
    '--genre_names=FILE:\nsci fi = Sci-Fi  # ',
    'two.csv, row 2',
    '6 of 7 genres have one poster only: T1 (row 3), ',
    'two.csv: 1 rows have a missing value as a genre (NA)',
  ):
    assert words in caplog.text


def test_a_film_in_two_splits_is_a_problem(tmp_path):
  first, second = sources.read(
    [
      _source(tmp_path, 'one', 'Id,Genre,Split\na,War,train\nb,War,\n'),
      _source(
        tmp_path, 'two', 'Id,Genre,Split\nb,War,test\na,War,test\nc,War,test\n'
      ),
    ]
  )
  assert [row.id for row in first.rows] == ['a', 'b']
  assert first.problems == []
  # b has no split in the first source, and so gets that of the second.
  assert [row.id for row in second.rows] == ['b', 'c']
  [problem] = second.problems
  assert (problem.row, problem.kind) == (3, 'film in two splits')
  assert problem.file.endswith('two.csv')
  assert "film 'a' is in test here, but in train in " in problem.reason
  assert 'one.csv, row 2' in problem.reason


@pytest.mark.parametrize(
  ('name', 'fault'), [('none', 'does not exist'), ('one.csv', 'is a file')]
)
def test_a_missing_image_folder_is_refused(tmp_path, name, fault):
  source = _source(tmp_path, 'one', 'Id,Genre\na,Drama\n')
  images = epath.Path(tmp_path) / name
  with pytest.raises(errors.InputError, match=f'--images={images} {fault}'):
    sources.read([sources.Source(source.csv, images)])
