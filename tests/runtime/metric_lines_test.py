import json

import pytest

from genre_flax.runtime import errors
from genre_flax.runtime import metric_lines

LINES = [
  {'step': 2, 'split': 'train', 'loss': 0.1 + 0.2},
  {'step': 3, 'split': 'test', 'auc': None},
]


def test_lines_are_read_as_written(tmp_path):
  metric_lines.write(tmp_path, LINES[:1])
  metric_lines.append(tmp_path, LINES[1])
  assert metric_lines.read(tmp_path) == LINES


def test_a_file_that_is_gone_is_not_begun_anew(tmp_path):
  with pytest.raises(errors.StorageError, match='No such file'):
    metric_lines.append(tmp_path, LINES[0])
  assert not list(tmp_path.iterdir())


def test_no_file_has_no_lines(tmp_path):
  assert metric_lines.read(tmp_path) == []


def test_every_line_is_json_with_a_checksum(tmp_path):
  metric_lines.write(tmp_path, LINES)
  text = (tmp_path / metric_lines.FILE_NAME).read_text()
  lines = [json.loads(line) for line in text.splitlines()]
  # Of the line's JSON without it.
  assert lines[1] == {**LINES[1], 'crc32': 'abf2b1fa'}


def test_a_line_of_an_earlier_version_has_no_checksum(tmp_path):
  path = tmp_path / metric_lines.FILE_NAME
  path.write_text(''.join(json.dumps(line) + '\n' for line in LINES))
  assert metric_lines.read(tmp_path) == LINES


def test_a_flipped_bit_costs_its_line_and_is_told(tmp_path, caplog):
  metric_lines.write(tmp_path, LINES)
  path = tmp_path / metric_lines.FILE_NAME
  whole = path.read_bytes()
  for place in range(whole.index(b'\n')):
    damaged = bytearray(whole)
    damaged[place] ^= 1 << place % 8
    path.write_bytes(damaged)
    caplog.clear()
    assert metric_lines.read(tmp_path)[-1] == LINES[1]
    assert LINES[0] not in metric_lines.read(tmp_path)
    assert f'{path}: ' in caplog.text
    assert 'line(s) are damaged' in caplog.text


@pytest.mark.parametrize('cut', [1, 5, 20])
def test_a_line_that_was_cut_off_is_no_damage(tmp_path, caplog, cut):
  metric_lines.write(tmp_path, LINES)
  path = tmp_path / metric_lines.FILE_NAME
  path.write_bytes(path.read_bytes()[:-cut])
  assert metric_lines.read(tmp_path) == LINES[:1]
  assert not caplog.text


@pytest.mark.parametrize('text', ['[]', '3', 'null', '{"split": "train"}', ''])
def test_what_is_no_line_is_left_out(tmp_path, text):
  (tmp_path / metric_lines.FILE_NAME).write_text(f'{text}\n')
  assert metric_lines.read(tmp_path) == []
