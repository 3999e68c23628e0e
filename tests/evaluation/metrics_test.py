"""Tests of metrics."""

import numpy as np
import pytest
from sklearn import metrics as sklearn_metrics

from genre_flax.evaluation import metrics
from genre_flax.evaluation import ranking


def random_split(seed=0, num_examples=60, num_genres=7, decimals=2):
  """Scores with many ties; at least one positive label per poster."""
  rng = np.random.default_rng(seed)
  labels = (rng.random((num_examples, num_genres)) < 0.25).astype(float)
  labels[np.arange(num_examples), rng.integers(0, num_genres, num_examples)] = 1
  scores = np.round(0.3 * labels + 0.7 * rng.random(labels.shape), decimals)
  return scores, labels


def value(name, scores, labels):
  return metrics.compute(scores, labels, names=(name,))[name]


def weighted_values(scores, labels, weights):
  inputs = metrics.Inputs(scores, labels)
  return inputs.compute(weights.astype(float), names=tuple(metrics.METRICS))


@pytest.mark.parametrize('block', [1, 7, 64, 1000])
@pytest.mark.parametrize('decimals', [0, 1, 12])
def test_blocks_do_not_change_results(monkeypatch, block, decimals):
  """Ties may cross the end of a block."""
  scores, labels = random_split(decimals=decimals)
  weights = np.random.default_rng(1).integers(0, 4, (3, 60)).astype(float)
  whole = weighted_values(scores, labels, weights)
  monkeypatch.setattr(ranking, '_BLOCK', block)
  pieces = weighted_values(scores, labels, weights)
  for name, values in whole.items():
    np.testing.assert_allclose(pieces[name], values, rtol=1e-12)


class TestAgainstScikitLearn:
  @pytest.mark.parametrize('seed', range(5))
  @pytest.mark.parametrize('decimals', [1, 2, 12])
  def test_ranking_metrics(self, seed, decimals):
    scores, labels = random_split(seed, decimals=decimals)
    assert value('mean_average_precision', scores, labels) == pytest.approx(
      sklearn_metrics.average_precision_score(labels, scores, average='macro'),
      abs=1e-6,
    )
    assert value('micro_average_precision', scores, labels) == pytest.approx(
      sklearn_metrics.average_precision_score(labels, scores, average='micro'),
      abs=1e-6,
    )
    assert value('mean_roc_auc', scores, labels) == pytest.approx(
      sklearn_metrics.roc_auc_score(labels, scores, average='macro'), abs=1e-6
    )

  @pytest.mark.parametrize('seed', range(5))
  def test_threshold_metrics(self, seed):
    scores, labels = random_split(seed)
    predicted = scores >= 0.5
    assert value('accuracy', scores, labels) == pytest.approx(
      1 - sklearn_metrics.hamming_loss(labels, predicted), abs=1e-6
    )
    assert value('exact_match', scores, labels) == pytest.approx(
      sklearn_metrics.accuracy_score(labels, predicted), abs=1e-6
    )
    for average in ('micro', 'macro'):
      assert value(f'{average}_f1', scores, labels) == pytest.approx(
        sklearn_metrics.f1_score(
          labels, predicted, average=average, zero_division=0
        ),
        abs=1e-6,
      )

  def test_means_omit_genres_without_positives_or_negatives(self):
    scores, labels = random_split(3)
    labels[:, 2] = 0
    labels[:, 4] = 1
    with_positives = [0, 1, 3, 4, 5, 6]
    assert value('mean_average_precision', scores, labels) == pytest.approx(
      np.mean(
        [
          sklearn_metrics.average_precision_score(labels[:, i], scores[:, i])
          for i in with_positives
        ]
      ),
      abs=1e-6,
    )
    assert value('mean_roc_auc', scores, labels) == pytest.approx(
      np.mean(
        [
          sklearn_metrics.roc_auc_score(labels[:, i], scores[:, i])
          for i in (0, 1, 3, 5, 6)
        ]
      ),
      abs=1e-6,
    )

  def test_weights_are_sample_weights(self):
    scores, labels = random_split(1)
    weights = np.random.default_rng(0).integers(0, 4, len(scores)).astype(float)
    ranked = ranking.Ranked.by_genre(scores, labels)
    for genre in range(labels.shape[1]):
      assert ranking.average_precision(ranked, weights[None])[
        0, genre
      ] == pytest.approx(
        sklearn_metrics.average_precision_score(
          labels[:, genre], scores[:, genre], sample_weight=weights
        ),
        abs=1e-9,
      )
      assert ranking.roc_auc(ranked, weights[None])[0, genre] == pytest.approx(
        sklearn_metrics.roc_auc_score(
          labels[:, genre], scores[:, genre], sample_weight=weights
        ),
        abs=1e-9,
      )


class TestTop3:
  # The top-3 predictions are 3, 0, 1 and 4, 2, 0.
  scores = np.array([[0.6, 0.5, 0.1, 0.9, 0.2], [0.3, 0.1, 0.4, 0.0, 0.8]])
  labels = np.array([[1.0, 0, 1, 1, 0], [0, 1, 0, 0, 0]])

  def test_best_genre_is_first(self):
    assert metrics.top_k(self.scores).tolist() == [[3, 0, 1], [4, 2, 0]]

  def test_first_genre_wins_ties(self):
    assert metrics.top_k(np.full((1, 5), 0.5)).tolist() == [[0, 1, 2]]

  def test_fewer_than_three_genres(self):
    assert metrics.top_k(np.array([[0.1, 0.9]])).tolist() == [[1, 0]]

  def test_hand_computed(self):
    assert value('precision_at_3', self.scores, self.labels) == pytest.approx(
      (2 / 3 + 0) / 2
    )
    assert value('recall_at_3', self.scores, self.labels) == pytest.approx(
      (2 / 3 + 0) / 2
    )
    assert value('hit_at_3', self.scores, self.labels) == 0.5


class TestConstantScores:
  def test_average_precision_is_the_share_of_positives(self):
    _, labels = random_split(2)
    scores = np.tile(labels.mean(axis=0), (len(labels), 1))
    ranked = ranking.Ranked.by_genre(scores, labels)
    ones = np.ones((1, len(labels)))
    np.testing.assert_allclose(
      ranking.average_precision(ranked, ones)[0], labels.mean(axis=0)
    )
    np.testing.assert_allclose(ranking.roc_auc(ranked, ones)[0], 0.5)


class TestWeights:
  def test_many_weightings_match_single_ones(self):
    scores, labels = random_split(4)
    weights = np.random.default_rng(1).integers(0, 3, (5, len(scores)))
    joint = weighted_values(scores, labels, weights)
    for i, row in enumerate(weights):
      single = weighted_values(scores, labels, row[None])
      for name in metrics.METRICS:
        assert joint[name][i] == pytest.approx(single[name][0], abs=1e-12)

  def test_weights_are_repetitions_of_examples(self):
    scores, labels = random_split(5)
    counts = np.random.default_rng(2).integers(0, 3, len(scores))
    weighted = weighted_values(scores, labels, counts[None])
    repeated = metrics.compute(
      np.repeat(scores, counts, axis=0), np.repeat(labels, counts, axis=0)
    )
    for name in metrics.METRICS:
      assert weighted[name][0] == pytest.approx(repeated[name], abs=1e-12)


class TestPredictedGenres:
  def test_against_scikit_learn(self):
    scores, labels = random_split(6)
    predicted = scores >= np.linspace(0.2, 0.8, 7)
    got = metrics.compute(
      scores, labels, predicted=predicted, names=('micro_f1', 'exact_match')
    )
    assert got.keys() == {'micro_f1', 'exact_match'}
    assert got['micro_f1'] == pytest.approx(
      sklearn_metrics.f1_score(labels, predicted, average='micro')
    )
    assert got['exact_match'] == pytest.approx(
      sklearn_metrics.accuracy_score(labels, predicted)
    )


class TestInvalidInput:
  def test_shapes_differ(self):
    with pytest.raises(ValueError, match=r'\(3, 2\).*\(3, 3\)'):
      metrics.compute(np.zeros((3, 2)), np.zeros((3, 3)))

  def test_no_examples(self):
    with pytest.raises(ValueError, match='at least one example'):
      metrics.compute(np.zeros((0, 3)), np.zeros((0, 3)))

  def test_scores_are_not_finite(self):
    scores, labels = random_split()
    scores[3, 1] = np.nan
    with pytest.raises(ValueError, match='1 of 420 scores are not finite'):
      metrics.compute(scores, labels)
