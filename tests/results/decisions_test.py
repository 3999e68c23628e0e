import csv
import dataclasses

from etils import epath
import numpy as np

from genre_flax.evaluation import calibration
from genre_flax.results import decisions

GENRES = ('Drama', '=War()', 'Western')
FITTED = dataclasses.replace(
  calibration.identity(GENRES),
  thresholds={
    'micro_f1': np.full(3, 0.3),
    'macro_f1': np.array([0.9, 0.3, 0.9]),
    'exact_match': np.full(3, 0.5),
  },
)
ROWS = [
  ('0.jpg', np.array([0.4, 0.7, 0.1])),
  ('=1.jpg', np.array([0.2, 0.1, 0.0])),
]


def rows_of(path):
  return list(csv.reader(path.read_text().splitlines()))


def test_each_poster_has_its_genres_for_each_aim(tmp_path):
  path = epath.Path(tmp_path) / 'decisions.csv'
  decisions.write(path, ROWS, calibration=FITTED)
  assert rows_of(path) == [
    ['poster', 'micro_f1', 'macro_f1', 'exact_match', 'top_three'],
    [
      '0.jpg',
      "'=War()|Drama",
      "'=War()",
      "'=War()",
      "'=War()|Drama|Western",
    ],
    ["'=1.jpg", 'Drama', 'Drama', 'Drama', 'Drama|=War()|Western'],
  ]


def test_many_posters_are_decided_on_as_few_are(tmp_path, monkeypatch):
  few, many = epath.Path(tmp_path) / 'few', epath.Path(tmp_path) / 'many'
  decisions.write(few, ROWS * 5, calibration=FITTED)
  monkeypatch.setattr(decisions, '_BLOCK', 3)
  decisions.write(many, iter(ROWS * 5), calibration=FITTED)
  assert many.read_bytes() == few.read_bytes()
  assert len(rows_of(few)) == 11
