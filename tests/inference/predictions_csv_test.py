import csv
import json

from etils import epath
import numpy as np
import pytest

from genre_flax.inference import predictions
from genre_flax.runtime import errors

GENRES = ('Drama', '=War()')
ROWS = [(f'{n}.jpg', np.array([0.1 * n, 0.5])) for n in range(5)]


def rows_of(path):
  return list(csv.reader(path.read_text().splitlines()))


def grow(folder, *, checkpoint='a', resume=False):
  return predictions.Growing(
    epath.Path(folder), genres=GENRES, checkpoint=checkpoint, resume=resume
  )


def test_a_whole_table(tmp_path):
  path = epath.Path(tmp_path) / 'predictions.csv'
  predictions.write(path, ROWS[:2], genres=GENRES)
  assert rows_of(path) == [
    ['poster', 'Drama', "'=War()"],
    ['0.jpg', '0.000000', '0.500000'],
    ['1.jpg', '0.100000', '0.500000'],
  ]


def test_a_table_that_grows_ends_as_a_whole_one(tmp_path):
  predictions.write(epath.Path(tmp_path) / 'whole', ROWS, genres=GENRES)
  table = grow(tmp_path / 'new')
  table.add(ROWS[:2])
  table.add([])
  assert not (tmp_path / 'new' / 'predictions.csv').exists()
  table.add(ROWS[2:])
  path = table.finish()
  assert path.read_bytes() == (tmp_path / 'whole').read_bytes()
  assert [p.name for p in (tmp_path / 'new').iterdir()] == ['predictions.csv']


@pytest.mark.parametrize('cut_off', ['', '3.jpg,0.3', '3.jpg,0.3,0.5\n'])
def test_one_that_was_stopped_goes_on_after_its_last_group(tmp_path, cut_off):
  grow(tmp_path).add(ROWS[:3])
  with open(tmp_path / 'predictions.partial.csv', 'a') as file:
    file.write(cut_off)  # Of a group that was not written whole.
  table = grow(tmp_path, resume=True)
  assert table.names == ['0.jpg', '1.jpg', '2.jpg']
  assert [name for name, _ in table.first] == table.names
  table.add(ROWS[3:])
  predictions.write(epath.Path(tmp_path) / 'whole', ROWS, genres=GENRES)
  assert table.finish().read_bytes() == (tmp_path / 'whole').read_bytes()


def test_without_being_asked_it_begins_anew_and_says_so(tmp_path, caplog):
  grow(tmp_path).add(ROWS[:3])
  assert grow(tmp_path).names == []
  assert '--resume' in caplog.text


def test_with_nothing_to_go_on_with_it_begins(tmp_path):
  assert grow(tmp_path, resume=True).names == []


def test_rows_of_another_checkpoint_are_refused(tmp_path):
  grow(tmp_path).add(ROWS)
  with pytest.raises(errors.InputError, match='another checkpoint'):
    grow(tmp_path, checkpoint='b', resume=True)


@pytest.mark.parametrize(
  'name', ['predictions.partial.csv', 'predictions.partial.json']
)
def test_damage_is_told_wherever_it_is(tmp_path, name):
  grow(tmp_path).add(ROWS)
  path = tmp_path / name
  whole = path.read_bytes()
  rows = (tmp_path / 'predictions.partial.csv').read_bytes()
  for place in range(len(whole)):
    path.write_bytes(
      whole[:place] + bytes([whole[place] ^ 1]) + whole[place + 1 :]
    )
    try:
      table = grow(tmp_path, resume=True)
    except errors.InputError:
      continue
    # One byte more than there are is no other table.
    assert table.path.read_bytes() == rows


def test_a_table_that_is_gone_is_told(tmp_path):
  grow(tmp_path).add(ROWS)
  (tmp_path / 'predictions.partial.csv').unlink()
  with pytest.raises(errors.DamageError, match='Leave out --resume'):
    grow(tmp_path, resume=True)


def test_names_are_as_they_stand_in_the_table(tmp_path):
  table = grow(tmp_path)
  table.add([('=a\n.jpg', ROWS[0][1]), ('caf\udce9.jpg', ROWS[0][1])])
  assert table.names == [r"'=a\n.jpg", r'caf\xe9.jpg']
  assert [row[0] for row in rows_of(table.finish())[1:]] == table.names


def test_memory_does_not_grow_with_the_scores(tmp_path):
  table = grow(tmp_path)
  for _ in range(40):
    table.add(ROWS)
  assert len(table.first) == predictions.NUM_FIRST == 60
  assert len(table.names) == 200


def test_the_state_is_of_the_rows_on_disk(tmp_path):
  table = grow(tmp_path)
  table.add(ROWS)
  state = json.loads((tmp_path / 'predictions.partial.json').read_text())
  assert state['bytes'] == table.path.stat().length
