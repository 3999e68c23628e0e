"""What the report shows, worked out by hand."""

import dataclasses

from etils import epath
import numpy as np
import pytest
from sklearn import metrics as sklearn_metrics

from genre_flax.evaluation import bootstrap
from genre_flax.evaluation import calibration
from genre_flax.evaluation import evaluator
from genre_flax.reports.html import charts
from genre_flax.reports.html import comparison
from genre_flax.reports.html import facts as facts_lib
from genre_flax.reports.html import genre_rows
from genre_flax.reports.html import posters
from genre_flax.reports.html import views
from genre_flax.runtime import errors

GENRES = ('Drama', 'War', 'Western')


@dataclasses.dataclass
class Scored:
  """A scored split as far as numbers are concerned."""

  scores: np.ndarray
  labels: np.ndarray
  genres: tuple = GENRES
  name: str = 'test'

  def __post_init__(self):
    self.scores = np.asarray(self.scores, float)
    self.labels = np.asarray(self.labels, np.float32)
    self.ids = tuple(f'p{i}' for i in range(len(self.scores)))
    self.predictions = evaluator.Predictions(self.scores, self.labels)
    self.predictor = self
    self.calibration = calibration.identity(self.genres)

  def __len__(self):
    return len(self.scores)


@pytest.fixture
def random_split():
  rng = np.random.default_rng(0)
  scores = rng.random((60, 3)).round(1)  # With ties.
  labels = rng.random((60, 3)) < 0.2 + 0.5 * scores
  return Scored(scores, labels)


def test_rows_are_those_of_scikit_learn(random_split):
  rows = genre_rows.make_rows(random_split, bootstrap_samples=50)
  assert [row.support for row in rows] == sorted(
    (int(n) for n in random_split.labels.sum(axis=0)), reverse=True
  )
  for row in rows:
    genre = GENRES.index(row.name)
    labels = random_split.labels[:, genre]
    scores = random_split.scores[:, genre]
    assert row.average_precision.value == pytest.approx(
      sklearn_metrics.average_precision_score(labels, scores)
    )
    assert row.roc_auc.value == pytest.approx(
      sklearn_metrics.roc_auc_score(labels, scores)
    )
    assert (
      row.average_precision.low
      < row.average_precision.value
      < row.average_precision.high
    )
    precisions, recalls, _ = sklearn_metrics.precision_recall_curve(
      labels, scores
    )
    # From the highest score on, and without the point that it adds.
    np.testing.assert_allclose(row.curve[0], recalls[::-1][1:])
    np.testing.assert_allclose(row.curve[1], precisions[::-1][1:])
    assert row.trivial == pytest.approx(labels.mean())


def test_precision_and_recall_are_of_the_decisions():
  split = Scored(
    [[0.9, 0.1, 0.2], [0.6, 0.2, 0.3], [0.4, 0.7, 0.1], [0.1, 0.9, 0.2]],
    [[1, 0, 0], [0, 0, 0], [1, 1, 0], [0, 1, 0]],
  )
  rows = {
    row.name: row for row in genre_rows.make_rows(split, bootstrap_samples=0)
  }
  assert (rows['Drama'].precision, rows['Drama'].recall) == (0.5, 0.5)
  assert (rows['War'].precision, rows['War'].recall) == (1.0, 1.0)
  assert np.isnan(rows['Western'].precision)
  assert np.isnan(rows['Western'].recall)


def test_mean_scores_and_co_occurrence_by_hand():
  split = Scored(
    [[0.8, 0.2, 0.0], [0.6, 0.4, 0.0], [0.1, 0.9, 0.0]],
    [[1, 0, 0], [1, 1, 0], [0, 1, 0]],
  )
  np.testing.assert_allclose(
    genre_rows.mean_scores(split),
    [[0.7, 0.3, 0], [0.35, 0.65, 0], [np.nan] * 3],
  )
  np.testing.assert_allclose(
    genre_rows.co_occurrence(split), [[1, 0.5, 0], [0.5, 1, 0], [np.nan] * 3]
  )


def test_a_genre_that_is_taken_for_another_is_told():
  # Posters of war that are no dramas are given 0.6, all others that are no
  # dramas 0.1.
  labels = [[0, 1, 0]] * 6 + [[0, 0, 1]] * 6
  scores = [[0.6, 0.9, 0.1]] * 6 + [[0.1, 0.1, 0.9]] * 6
  (pair,) = genre_rows.taken_for(Scored(scores, labels))
  assert (pair.true, pair.given, pair.support) == ('War', 'Drama', 6)
  assert pair.score == pytest.approx(0.6)
  assert pair.usual == pytest.approx(0.35)


def test_few_posters_say_nothing_of_a_pair():
  labels = [[0, 1, 0]] * 4 + [[0, 0, 1]] * 6
  scores = [[0.6, 0.9, 0.1]] * 4 + [[0.1, 0.1, 0.9]] * 6
  assert genre_rows.taken_for(Scored(scores, labels)) == []


@pytest.fixture
def six():
  """Scores of drama alone differ; posters 0, 2 and 4 are dramas."""
  scores = [[s, 0.01, 0.01] for s in (0.9, 0.8, 0.7, 0.3, 0.2, 0.1)]
  labels = [[1, 0, 0], [0, 1, 0], [1, 0, 0], [0, 1, 0], [1, 0, 0], [0, 1, 0]]
  return Scored(scores, labels)


def test_surest(six):
  assert [c.index for c in posters.surest(six, right=True)] == [0, 2, 4]
  assert [c.index for c in posters.surest(six, right=False)] == [1, 3, 5]


def test_best_and_worst_of_a_genre(six):
  best, worst, wrong = posters.best_and_worst(six, 0)
  assert [c.index for c in best] == [0, 2, 4]
  assert worst == []  # All of them are among the best.
  assert [c.index for c in wrong] == [1, 3, 5]


def test_suspect_labels(six):
  missing, extra = posters.suspect_labels(six)
  # Dramas have 0.6 on average, the others 0.4.
  assert (missing.index, missing.genre) == (1, 0)
  assert missing.note == 'not among its genres: Drama 0.80'
  assert (extra.index, extra.genre) == (4, 0)
  assert extra.note == 'among its genres: Drama 0.20'


def test_comparison_by_hand():
  labels = [[1, 0, 0, 0]] * 4
  # The first names the genre for two posters, the other for three.
  named, not_named = [0.9, 0.5, 0.4, 0.3], [0.1, 0.5, 0.4, 0.3]
  genres = (*GENRES, 'Crime')
  first = Scored([named, named, not_named, not_named], labels, genres)
  other = Scored([named, not_named, named, named], labels, genres)
  found = comparison.compare(first, other, bootstrap_samples=200)
  assert (found.num_gained, found.num_lost) == (2, 1)
  assert [c.index for c in found.gained] == [2, 3]
  assert [c.index for c in found.lost] == [1]
  assert found.lost[0].note == 'Drama 0.90 → 0.10'
  difference = found.differences['hit_at_3']
  assert difference.value == 0.25
  assert difference.low < 0 < difference.high
  assert {name for name, _, _ in views.METRICS} < found.differences.keys()


def test_the_same_run_differs_by_nothing(random_split):
  found = comparison.compare(random_split, random_split, bootstrap_samples=20)
  for difference in found.differences.values():
    assert tuple(difference) == (0, 0, 0)


def test_pairing_narrows_the_interval(random_split):
  rng = np.random.default_rng(1)
  other = np.clip(
    random_split.scores + rng.normal(0, 0.02, random_split.scores.shape), 0, 1
  )
  labels = random_split.labels
  paired = bootstrap.differences(
    other, random_split.scores, labels, num_samples=300
  )['mean_average_precision']
  alone = bootstrap.intervals(other, labels, num_samples=300)[
    'mean_average_precision'
  ]
  assert paired.high - paired.low < 0.5 * (alone[1] - alone[0])


@pytest.mark.parametrize(
  ('change', 'words'),
  [
    ({'genres': ('Drama', 'War', 'Crime')}, "genres .* such as 'Crime'"),
    ({'scores': np.zeros((2, 3)), 'labels': np.zeros((2, 3))}, 'posters'),
    ({'labels': np.ones((60, 3))}, 'other genres in the data set of one'),
  ],
)
def test_what_cannot_be_compared_is_refused(random_split, change, words):
  fields = {
    'scores': random_split.scores,
    'labels': random_split.labels,
    'genres': GENRES,
  }
  other = Scored(**{**fields, **change})
  with pytest.raises(errors.InputError, match=words):
    comparison.check_comparable([random_split, other])


def make_facts(history):
  class Config(dict):
    __getattr__ = dict.__getitem__

  class Predictor:
    config = Config(batch_size=32, dataset=Config(validation_split='val'))
    step, which = 20, 'best'

  return facts_lib.Facts(
    workdir=epath.Path('a/run'),
    predictor=Predictor(),
    card=None,
    history=history,
    starts=[],
    changed=[],
  )


HISTORY = (
  {'step': 10, 'split': 'train', 'loss': 3.0, 'images_per_second': 64.0},
  {'step': 20, 'split': 'val', 'loss': 2.5, 'seconds': 4.0},
  {'step': 20, 'split': 'train', 'loss': None, 'images_per_second': 32.0},
)


def test_time_is_that_of_steps_and_validation():
  # 10 steps of 32 at 64 a second, 10 at 32 a second, and 4 seconds.
  assert make_facts(HISTORY).seconds == 5 + 10 + 4
  assert '20 steps of 32 posters, in 0:00:19' in make_facts(HISTORY).training


def test_series_leave_out_what_is_no_number():
  facts = make_facts(HISTORY)
  assert facts.series('train', 'loss') == [(10, 3.0)]
  assert facts.peak('images_per_second') == 64.0
  assert facts.peak('peak_device_memory_gb') is None


def test_a_workdir_without_history_has_no_curves():
  assert charts.training_curves(make_facts(())) == {}
  assert 'not recorded' in make_facts(()).machine


def test_charts_take_any_names_and_follow_the_theme():
  names = ('<script>alert(1)</script>', '$\\frac{', '映画 & "x"')
  values = np.array([[0.1, 0.5, np.nan], [0.2, 1.0, 0.0], [0.3, 0.2, 0.9]])
  matrix = charts.genre_matrix('Mean score', names, values)
  ranges = charts.score_ranges(names, np.eye(3), np.eye(3))
  for svg in (matrix, ranges):
    assert '<script' not in svg
    assert '&lt;script&gt;al' in svg
    assert '$\\frac{' in svg
    assert 'var(--faint)' in svg
    assert not [color for color in charts._VARIABLES if color in svg]
  # One of them after the other on a page: no name is there twice.
  other = charts.genre_matrix('Mean score', names, values / 2)
  ids = [
    part.split('"')[0]
    for svg in (matrix, other)
    for part in svg.split(' id="')[1:]
  ]
  assert len(set(ids)) == len(ids)
