import csv
import dataclasses

from etils import epath
import numpy as np

from genre_flax.evaluation import calibration
from genre_flax.evaluation import calibration_fit
from genre_flax.reports import decisions
from tests.evaluation import combinations_test

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
    ['poster', 'micro_f1', 'macro_f1', 'exact_match', 'three_together'],
    [
      '0.jpg',
      "'=War()|Drama",
      "'=War()",
      "'=War()",
      "'=War()|Drama|Western",
    ],
    ["'=1.jpg", 'Drama', 'Drama', 'Drama', 'Drama|=War()|Western'],
  ]


def test_a_name_that_holds_the_separator_can_be_told(tmp_path):
  path = epath.Path(tmp_path) / 'decisions.csv'
  genres = ('Sci|Fi', 'Fi', 'War')
  decisions.write(
    path,
    [('a', np.array([0.9, 0.8, 0.1]))],
    calibration=calibration.identity(genres),
  )
  assert rows_of(path)[1][1] == r'Sci\|Fi|Fi'


def test_from_rounded_scores_the_genres_are_those_of_the_network(tmp_path):
  logits, labels = combinations_test.draw(0, 300, noise=4.0)
  fitted = calibration_fit.fit(
    logits,
    labels,
    genres=combinations_test.GENRES,
    counts=combinations_test.COUNTS,
  )
  scores = fitted.to_scores(logits)
  rows = [(str(i), row.round(6)) for i, row in enumerate(scores)]
  path = epath.Path(tmp_path) / 'decisions.csv'
  decisions.write(path, rows, calibration=fitted)
  _, *written = rows_of(path)
  for place, point in enumerate(calibration.DECISIONS, start=1):
    expected = [
      {fitted.genres[i] for i in np.flatnonzero(given)}
      for given in fitted.decide(scores, point)
    ]
    assert [set(row[place].split('|')) for row in written] == expected


def test_many_posters_are_decided_on_as_few_are(tmp_path, monkeypatch):
  few, many = epath.Path(tmp_path) / 'few', epath.Path(tmp_path) / 'many'
  decisions.write(few, ROWS * 5, calibration=FITTED)
  monkeypatch.setattr(decisions, '_BLOCK', 3)
  decisions.write(many, iter(ROWS * 5), calibration=FITTED)
  assert many.read_bytes() == few.read_bytes()
  assert len(rows_of(few)) == 11
