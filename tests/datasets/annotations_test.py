"""Tests of reading the CSV file of a poster collection."""

from etils import epath
import pytest

from genre_flax.datasets.posters import annotations
from genre_flax.datasets.posters import columns


def _read(tmp_path, text, exclude_genres=(), genre_names=None, **given):
  path = epath.Path(tmp_path) / 'posters.csv'
  path.write_text(text)
  return annotations.read_csv(
    path,
    columns=columns.Columns(**given),
    exclude_genres=exclude_genres,
    genre_names=genre_names,
  )


@pytest.mark.parametrize(
  'text',
  [
    'Id,Action,Drama\na,1,0\nb,1,1\n',
    'Id,Action,Drama\na,1.0,0.0\nb, 1 ,1\n',
    'Id,Genre,Action,Drama\na,Action,1,0\nb,Action|Drama,1,1\n',
    "Id,Genre\na,\"['Action']\"\nb,\"['Drama', 'Action']\"\n",
    'Id,Genre\na,Action\nb,Action|Drama\n',
    'Id,Genre\na,Action\nb,"Action, Drama"\n',
    'Id,Genre\na,Action\nb,Action / Drama\n',
    'Genre,Id\nAction,a\nAction|Drama,b\n',
    'Id,Action,Drama\na,TRUE,False\nb,true,True\n',
    'Id,Action,Drama\na,1,\nb, 1,1.0\n',
    "Id,Genre\na,Action\nb,\"[{'name': 'Drama'}, {'name': 'Action'}]\"\n",
  ],
)
def test_all_layouts_of_a_csv_give_the_same_rows(tmp_path, text):
  found = _read(tmp_path, text)
  assert found.genres == ('Action', 'Drama')
  assert [
    (row.id, row.image, row.genres, row.split, row.row) for row in found.rows
  ] == [
    ('a', 'a.jpg', ('Action',), None, 2),
    ('b', 'b.jpg', ('Action', 'Drama'), None, 3),
  ]
  assert found.problems == []
  assert (found.num_rows, found.num_repeated) == (2, 0)


def test_an_image_column_wins_over_the_pattern(tmp_path):
  found = _read(
    tmp_path,
    'Id,Genre,File\n2001/a,Drama, sub/x.png \n',
    image='File',
    image_pattern='{id}.jpg',
  )
  # The id is not part of a path then, and may contain slashes.
  assert (found.rows[0].id, found.rows[0].image) == ('2001/a', 'sub/x.png')


@pytest.mark.parametrize(
  ('cells', 'split'),
  [
    (('train', 'Training'), 'train'),
    (('val', 'valid', 'DEV', 'validation'), 'validation'),
    ((' test ',), 'test'),
    (('',), None),
  ],
)
def test_the_split_column_is_read(tmp_path, cells, split):
  rows = ''.join(f'{n},Drama,{cell}\n' for n, cell in enumerate(cells))
  found = _read(tmp_path, f'Id,Genre,Split\n{rows}')
  assert [row.split for row in found.rows] == [split] * len(cells)


@pytest.mark.parametrize(
  ('text', 'words'),
  [
    (
      'Id,Genre\na,Drama\nb,War|SF\na,War\n',
      "genres ['Drama'] there and ['War'] here",
    ),
    (
      'Id,Genre,Split\na,War,test\nb,War,\na,War,train\n',
      'split test there and train here',
    ),
  ],
)
def test_contradicting_rows_of_a_film_are_problems(tmp_path, text, words):
  found = _read(tmp_path, text)
  [problem] = found.problems
  assert (problem.row, problem.kind) == (4, 'repeated id, other content')
  for word in ("id 'a'", 'row 2', words):
    assert word in problem.reason
  assert [row.row for row in found.rows] == [2, 3]


def test_rows_of_one_genre_each_are_joined(tmp_path):
  text = 'Id,Genre\na,War\na,Drama\nb,War\na,SF\na,War\n'
  found = _read(tmp_path, text)
  assert [(row.id, row.genres, row.row) for row in found.rows] == [
    ('a', ('Drama', 'SF', 'War'), 2),
    ('b', ('War',), 4),
  ]
  assert (found.num_rows, found.num_repeated, found.problems) == (5, 3, [])
  assert found.notes[0].startswith('2 rows have a further genre')


_MISSING = 'Id,Genre\na,Drama|N/A\nb,War\nc,nan\nd,null\n'


@pytest.mark.parametrize(
  'text',
  [_MISSING, 'Id,Drama,War,N/A\na,1,0,1\nb,0,1,0\nc,0,0,1\nd,,,1\n'],
  ids=['list', 'one-hot columns'],
)
def test_missing_values_are_no_genres(tmp_path, text):
  found = _read(tmp_path, text)
  assert found.genres == ('Drama', 'War')
  assert [row.genres for row in found.rows] == [('Drama',), ('War',)]
  assert (found.num_excluded, found.problems) == (2, [])
  [note] = found.notes
  for words in ('3 rows', 'N/A', 'rows 2, 4, 5', '--keep_na'):
    assert words in note


def test_empty_lists_are_missing_values(tmp_path):
  found = _read(tmp_path, 'Id,Genre\na,[]\nb,"[\'War\']"\n')
  assert [row.genres for row in found.rows] == [('War',)]
  assert (found.num_excluded, found.problems) == (1, [])
  assert '([]): rows 2' in found.notes[0]


def test_missing_values_are_genres_on_request(tmp_path):
  found = _read(tmp_path, _MISSING, keep_na=True)
  assert found.genres == ('Drama', 'N/A', 'War', 'nan', 'null')
  assert (len(found.rows), found.notes) == (4, ())
  renamed = _read(tmp_path, _MISSING, ['null'], {'nan': 'Other'})
  assert renamed.genres == ('Drama', 'Other', 'War')
  assert (renamed.num_excluded, renamed.problems) == (1, [])


def test_words_separated_by_spaces_are_noted(tmp_path):
  text = 'Id,Genre\na,War Drama\nb,War SF\nc,SF Drama\n'
  assert "--genre_separator=' '" in _read(tmp_path, text).notes[0]
  split = _read(tmp_path, text, genre_separator=' ')
  assert (split.genres, split.notes) == (('Drama', 'SF', 'War'), ())
  # Names of two words.
  text = 'Id,Genre\na,TV Drama\nb,Science Fiction\nc,TV War\n'
  assert _read(tmp_path, text).notes == ()


def test_a_split_column_can_be_named_or_ignored(tmp_path):
  text = 'Id,Genre,Split,Fold\na,War,1,train\nb,War,2,dev\n'
  [problem, _] = _read(tmp_path, text).problems
  assert '--split_column=' in problem.reason
  assert [row.split for row in _read(tmp_path, text, split='').rows] == [
    None
  ] * 2
  found = _read(tmp_path, text, split='Fold')
  assert [row.split for row in found.rows] == ['train', 'validation']


def test_a_film_may_have_several_images_and_repeated_rows(tmp_path):
  found = _read(
    tmp_path,
    'Id,Genre,File\na,War|SF,1.jpg\na,War|SF,2.jpg\n a ,"SF, War",1.jpg\n',
    image='File',
  )
  assert found.problems == []
  assert [(row.id, row.image) for row in found.rows] == [
    ('a', '1.jpg'),
    ('a', '2.jpg'),
  ]
  assert (found.num_rows, found.num_repeated) == (3, 1)


def test_genres_are_renamed_in_lists_and_columns(tmp_path):
  found = _read(
    tmp_path,
    'Id,Genre,Sci-Fi,SF,Drama\na,Sci-Fi|Drama,0,1,1\nb,SF,1,1,0\n',
    genre_names={'Sci-Fi': 'Science Fiction', 'SF': 'Science Fiction'},
  )
  assert found.problems == []
  assert found.genres == ('Drama', 'Science Fiction')
  assert [row.genres for row in found.rows] == [
    ('Drama', 'Science Fiction'),
    ('Science Fiction',),
  ]
  assert found.listed_names == {'Sci-Fi', 'SF', 'Drama'}
  # The list has an old name, and the column the new one.
  found = _read(
    tmp_path,
    'Id,Genre,Drama,Science Fiction\na,SF|Drama,1,1\n',
    genre_names={'SF': 'Science Fiction'},
  )
  assert (found.genres, found.notes) == (('Drama', 'Science Fiction'), ())


@pytest.mark.parametrize(
  ('row', 'kind', 'words'),
  [
    (',Drama,0,1,train', 'missing id', ["'Id' is empty"]),
    ('a,Drama,0,2,train', 'label not 0 or 1', ["'Drama' is '2'"]),
    ('a,Drama', 'labels disagree', ["has ['Drama']", 'have []']),
    ('a,War,0,0,train', 'unknown genre', ["'Genre'", "['War']", 'one-hot']),
    ('a,[Drama],0,1,train', 'bad genre list', ["'Genre'", "'[Drama]'"]),
    ('a,,0,0,train', 'no genre', ['expected at least one genre', "got ''"]),
    (
      'a,Drama,1,0,train',
      'labels disagree',
      ["has ['Drama']", "have ['Action']"],
    ),
    ('a,,0,1,train', 'labels disagree', ['has []', "have ['Drama']"]),
    ('a,Drama,0,1,half', 'unknown split', ["'Split' is 'half'", 'train, val']),
  ],
)
def test_invalid_rows_are_problems_and_the_others_are_kept(
  tmp_path, row, kind, words
):
  found = _read(
    tmp_path,
    'Id,Genre,Action,Drama,Split\n'
    'x,Action,1,0,train\n'
    f'{row}\n'
    'y,Drama,0,1,test\n',
  )
  [problem] = found.problems
  assert (problem.row, problem.kind) == (3, kind)
  for word in words:
    assert word in problem.reason
  assert [(good.id, good.row) for good in found.rows] == [('x', 2), ('y', 4)]
  assert found.num_rows == 3


@pytest.mark.parametrize(
  'name', ['../a', 'a/b', '/a', '..', '..\\a', 'C:\\a', 'a/', '\\\\host\\a']
)
def test_an_id_with_a_path_in_it_is_a_problem(tmp_path, name):
  found = _read(tmp_path, f'Id,Genre\n{name},Drama\n')
  [problem] = found.problems
  assert (problem.row, problem.kind) == (2, 'id with a path')
  assert repr(name) in problem.reason
  assert '--image_column' in problem.reason
  assert found.rows == []


def test_unusual_ids_without_a_path_are_accepted(tmp_path):
  names = ['a..b', '...', 'a.b', 'N:A', 'tt 1', 'é', 'A', 'a']
  rows = ''.join(f'{name},Drama\n' for name in names)
  found = _read(tmp_path, f'Id,Genre\n{rows}')
  assert [row.id for row in found.rows] == names


@pytest.mark.parametrize(
  ('image', 'reason'),
  [
    ('../a.jpg', "'../a.jpg', a path outside"),
    ('x/../../a.jpg', "'x/../../a.jpg', a path outside"),
    ('/a.jpg', "'/a.jpg', a path outside"),
    ('', "column 'File' is empty"),
  ],
)
def test_an_invalid_image_path_is_a_problem(tmp_path, image, reason):
  found = _read(tmp_path, f'Id,Genre,File\na,Drama,{image}\n', image='File')
  [problem] = found.problems
  assert reason in problem.reason


@pytest.mark.parametrize(
  'text',
  [
    'Id,Genre\na,Drama|N/A\nb,War\nc,N/A\n',
    'Id,Genre,Drama,War\na,Drama|N/A,1,0\nb,War,0,1\nc,N/A,0,0\n',
    'Id,Genre,Drama,War,N/A\na,Drama,1,0,1\nb,War,0,1,0\nc,N/A,0,0,1\n',
  ],
  ids=['list', 'list only', 'one-hot columns only'],
)
def test_excluded_genres_are_dropped(tmp_path, text):
  found = _read(tmp_path, text, exclude_genres=['N/A'])
  assert found.problems == []
  assert found.genres == ('Drama', 'War')
  assert [row.genres for row in found.rows] == [('Drama',), ('War',)]
  assert (found.num_rows, found.num_excluded) == (3, 1)


def test_list_or_columns_can_be_disabled(tmp_path):
  text = 'Id,Genre,Drama,War\na,War,1,0\nb,War,0,1\n'
  listed = _read(tmp_path, text, labels=())
  assert [row.genres for row in listed.rows] == [('War',), ('War',)]
  one_hot = _read(tmp_path, text, genre='')
  assert [row.genres for row in one_hot.rows] == [('Drama',), ('War',)]
