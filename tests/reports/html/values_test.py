"""The values of the HTML report, compared with hand-computed numbers."""

import dataclasses
import json
import re
import types

from etils import epath
import numpy as np
import pytest
from sklearn import metrics as sklearn_metrics

from genre_flax.evaluation import bootstrap
from genre_flax.evaluation import calibration
from genre_flax.evaluation import evaluator
from genre_flax.evaluation import metrics
from genre_flax.reports.html import charts
from genre_flax.reports.html import comparison
from genre_flax.reports.html import genres as genres_lib
from genre_flax.reports.html import posters
from genre_flax.reports.html import report
from genre_flax.reports.html import runs

GENRES = ('Drama', 'War', 'Western')


@dataclasses.dataclass
class Scored:
  """The numbers of a scored split."""

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
    self.label_prior = np.full(len(self.genres), 0.5)

  def __len__(self):
    return len(self.scores)


@pytest.fixture
def random_split():
  rng = np.random.default_rng(0)
  scores = rng.random((60, 3)).round(1)  # With ties.
  labels = rng.random((60, 3)) < 0.2 + 0.5 * scores
  return Scored(scores, labels)


def test_genre_metrics_equal_scikit_learn(random_split):
  genres = genres_lib.compute_metrics(random_split, bootstrap_samples=50)
  assert [genre.support for genre in genres] == sorted(
    (int(n) for n in random_split.labels.sum(axis=0)), reverse=True
  )
  for genre in genres:
    column = GENRES.index(genre.name)
    labels = random_split.labels[:, column]
    scores = random_split.scores[:, column]
    estimate = genre.average_precision
    assert estimate.value == pytest.approx(
      sklearn_metrics.average_precision_score(labels, scores)
    )
    assert estimate.low < estimate.value < estimate.high
    precisions, recalls, _ = sklearn_metrics.precision_recall_curve(
      labels, scores
    )
    # In descending order of the scores, without the point (0, 1).
    np.testing.assert_allclose(genre.curve[0], recalls[::-1][1:])
    np.testing.assert_allclose(genre.curve[1], precisions[::-1][1:])
    assert genre.baseline == pytest.approx(labels.mean())


def test_precision_and_recall_at_threshold():
  split = Scored(
    [[0.9, 0.1, 0.2], [0.6, 0.2, 0.3], [0.4, 0.7, 0.1], [0.1, 0.9, 0.2]],
    [[1, 0, 0], [0, 0, 0], [1, 1, 0], [0, 1, 0]],
  )
  genres = genres_lib.compute_metrics(split, bootstrap_samples=0)
  values = {genre.name: [genre.precision, genre.recall] for genre in genres}
  assert values['Drama'] == [0.5, 0.5]
  assert values['War'] == [1, 1]
  assert np.isnan(values['Western']).all()


def test_means_by_label_by_hand():
  scores = np.array([[0.8, 0.2, 0.0], [0.6, 0.4, 0.0], [0.1, 0.9, 0.0]])
  labels = np.array([[1, 0, 0], [1, 1, 0], [0, 1, 0]])
  np.testing.assert_allclose(
    genres_lib.means_by_label(labels, scores),
    [[0.7, 0.3, 0], [0.35, 0.65, 0], [np.nan] * 3],
  )
  np.testing.assert_allclose(
    genres_lib.means_by_label(labels, labels),
    [[1, 0.5, 0], [0.5, 1, 0], [np.nan] * 3],
  )


@pytest.mark.parametrize('support', [4, 6])
def test_confusions_by_hand(support):
  # Neither kind of poster is a drama; war posters have scores of 0.6 for it,
  # others 0.1.
  labels = [[0, 1, 0]] * support + [[0, 0, 1]] * 6
  scores = [[0.6, 0.9, 0.1]] * support + [[0.1, 0.1, 0.9]] * 6
  confusions = genres_lib.find_confusions(Scored(scores, labels))
  if support < 5:
    assert confusions == []
  else:
    assert list(confusions[0].values()) == pytest.approx(
      ['War', 'Drama', 0.6, 0.35, 6]
    )
    assert len(confusions) == 1


@pytest.fixture
def six_posters():
  """Scores that differ for Drama only; posters 0, 2 and 4 are dramas."""
  scores = [[s, 0.01, 0.01] for s in (0.9, 0.8, 0.7, 0.3, 0.2, 0.1)]
  labels = [[1, 0, 0], [0, 1, 0]] * 3
  return Scored(scores, labels)


def indices(choices):
  return [choice.index for choice in choices]


def test_choices_of_posters(six_posters):
  correct = posters.most_confident(six_posters, correct=True)
  wrong = posters.most_confident(six_posters, correct=False)
  assert (indices(correct), indices(wrong)) == ([0, 2, 4], [1, 3, 5])
  by_genre = posters.best_and_worst(six_posters, 0)
  # No drama is left for the lowest scores.
  assert list(map(indices, by_genre.values())) == [[0, 2, 4], [], [1, 3, 5]]
  # The mean score of dramas is 0.6, that of the others 0.4.
  assert posters.suspicious_labels(six_posters) == [
    posters.Choice(1, 0, 'Missing? Drama 0.80'),
    posters.Choice(4, 0, 'Wrong? Drama 0.20'),
  ]


def test_comparison_by_hand():
  labels = [[1, 0, 0, 0]] * 4
  # The first predicts the genre of two posters, the other that of three.
  hit, miss = [0.9, 0.5, 0.4, 0.3], [0.1, 0.5, 0.4, 0.3]
  genres = (*GENRES, 'Crime')
  first = Scored([hit, hit, miss, miss], labels, genres)
  other = Scored([hit, miss, hit, hit], labels, genres)
  changed = comparison.changed_posters(first, other)
  assert indices(changed['improved']) == [2, 3]
  assert changed['degraded'] == [posters.Choice(1, 0, 'Drama 0.90 → 0.10')]
  differences = comparison.differences(first, other, bootstrap_samples=200)
  difference = differences['hit_at_3']
  assert difference.value == 0.25
  assert difference.low < 0 < difference.high
  assert {name for name, _, _ in report.metric_titles()} <= differences.keys()


@pytest.mark.parametrize(
  ('name', 'low', 'high', 'verdict'),
  [
    ('accuracy', 0.1, 0.2, 'better'),
    ('accuracy', -0.1, 0.2, ''),
    ('cross_entropy', 0.1, 0.2, 'worse'),
    ('cross_entropy', -0.2, -0.1, 'better'),
    ('accuracy', np.nan, np.nan, ''),
  ],
)
def test_color_of_a_difference(name, low, high, verdict):
  assert report.verdict(bootstrap.Estimate(0.1, low, high), name) == verdict


def test_pairing_narrows_interval(random_split):
  rng = np.random.default_rng(1)
  noise = rng.normal(0, 0.02, random_split.scores.shape)
  other = Scored(
    np.clip(random_split.scores + noise, 0, 1), random_split.labels
  )
  name = 'mean_average_precision'
  paired = comparison.differences(random_split, other, bootstrap_samples=300)
  unpaired = bootstrap.intervals(
    metrics.Inputs(other.scores, other.labels), num_samples=300
  )
  width = unpaired[name].high - unpaired[name].low
  assert paired[name].high - paired[name].low < 0.5 * width


def test_curves_and_duration_of_training(tmp_path):
  lines = [
    {'step': 10, 'split': 'train', 'loss': 3.0, 'images_per_second': 64.0},
    {'step': 20, 'split': 'val', 'loss': 2.5, 'seconds': 4.0},
    {'step': 20, 'split': 'train', 'loss': None, 'images_per_second': 32.0},
  ]
  (tmp_path / 'metrics.jsonl').write_text(
    ''.join(f'{json.dumps(line)}\n' for line in lines)
  )
  config = types.SimpleNamespace(
    batch_size=32, dataset=types.SimpleNamespace(validation_split='val')
  )
  predictor = types.SimpleNamespace(config=config, step=20)
  run = runs.Run(epath.Path(tmp_path), predictor, None, None)
  # 10 steps of 32 images at 64 images/s, 10 at 32 images/s, and validation.
  assert run.seconds == 5 + 10 + 4
  assert run.num_steps == 20
  assert run.series('train', 'loss') == [(10, 3.0)]
  assert run.peak('images_per_second') == 64.0
  assert run.peak('peak_device_memory_gb') is None
  assert list(charts.training_curves(run)) == ['Loss', 'Images per second']


def test_charts_escape_names_and_follow_theme():
  names = ('<script>alert(1)</script>', '$\\frac{', '映画 & "x"')
  values = np.array([[0.1, 0.5, np.nan], [0.2, 1.0, 0.0], [0.3, 0.2, 0.9]])
  matrix = charts.genre_matrix(names, values)
  ranges = charts.score_ranges(names, np.eye(3), np.eye(3))
  for svg in (matrix, ranges):
    assert '<script' not in svg
    assert '&lt;script&gt;al' in svg
    assert '$\\frac{' in svg
    assert 'var(--faint)' in svg
    assert not [color for color in charts._PLACEHOLDERS if color in svg]
  # Charts on one page have different ids.
  ids = re.findall(r' id="(.*?)"', matrix + charts.genre_matrix(names, values))
  assert 0 < len(ids) == len(set(ids))
