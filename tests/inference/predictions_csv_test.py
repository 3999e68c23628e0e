"""Tests of predictions.csv."""

import csv
import dataclasses
import io

from etils import epath
import numpy as np
import pytest

from genre_flax.evaluation import calibration as calibration_lib
from genre_flax.inference import predictions_csv

GENRES = ('Drama', '=War()', 'Sci|Fi')
CALIBRATION = dataclasses.replace(
  calibration_lib.identity(GENRES),
  thresholds={
    'micro_f1': np.full(3, 0.3),
    'macro_f1': np.array([0.9, 0.1, 0.9]),
    'exact_match': np.full(3, 0.5),
  },
)
ROWS = [
  ('0.jpg', np.array([0.4, 0.7, 0.1])),
  ('=1\n.jpg', np.array([0.2, 0.1, 0.0])),
  ('caf\udce9.jpg', np.array([0.3, 0.0, 0.9])),
]


def rows_of(content):
  return list(csv.reader(io.StringIO(content.decode())))


def test_rows_have_scores_and_predicted_genres():
  assert rows_of(predictions_csv.to_csv(ROWS, calibration=CALIBRATION)) == [
    ['poster', 'Drama', "'=War()", 'Sci|Fi', 'predicted_genres'],
    ['0.jpg', '0.400000', '0.700000', '0.100000', "'=War()|Drama"],
    [r"'=1\n.jpg", '0.200000', '0.100000', '0.000000', 'Drama'],
    [r'caf\xe9.jpg', '0.300000', '0.000000', '0.900000', r'Sci\|Fi|Drama'],
  ]


def test_writer_writes_the_same_table(tmp_path):
  folder = epath.Path(tmp_path) / 'new'
  with predictions_csv.Writer(folder, calibration=CALIBRATION) as writer:
    writer.add(ROWS[:2])
    writer.add([])
    assert not writer.path.exists()
    writer.add(ROWS[2:])
  assert writer.num_rows == 3
  assert [path.name for path in folder.iterdir()] == ['predictions.csv']
  assert writer.path.read_bytes() == predictions_csv.to_csv(
    ROWS, calibration=CALIBRATION
  )


def test_interrupted_writer_keeps_the_rows_so_far(tmp_path, caplog):
  with (
    pytest.raises(KeyboardInterrupt),
    predictions_csv.Writer(
      epath.Path(tmp_path), calibration=CALIBRATION
    ) as writer,
  ):
    writer.add(ROWS[:2])
    partial = tmp_path / 'predictions.partial.csv'
    expected = predictions_csv.to_csv(ROWS[:2], calibration=CALIBRATION)
    assert partial.read_bytes() == expected  # Also if the process is killed.
    raise KeyboardInterrupt
  assert partial.read_bytes() == expected
  assert not writer.path.exists()
  assert f'{partial} has the first 2 rows' in caplog.text
