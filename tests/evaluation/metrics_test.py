import numpy as np
import pytest
from sklearn import metrics as sklearn_metrics

from genre_flax.evaluation import metrics
from genre_flax.evaluation import ranking


def random_split(seed=0, num_examples=60, num_genres=7, decimals=2):
  """Scores with many ties, and labels with at least one positive a poster."""
  rng = np.random.default_rng(seed)
  labels = (rng.random((num_examples, num_genres)) < 0.25).astype(float)
  labels[np.arange(num_examples), rng.integers(0, num_genres, num_examples)] = 1
  scores = np.round(0.3 * labels + 0.7 * rng.random(labels.shape), decimals)
  return scores, labels


def value(name, scores, labels, weights=None):
  return metrics.compute(scores, labels, weights=weights)[name][0]


@pytest.mark.parametrize('block', [1, 7, 64, 1000])
@pytest.mark.parametrize('decimals', [0, 1, 12])
def test_blocks_change_nothing(monkeypatch, block, decimals):
  """Ties may reach over the end of a block."""
  scores, labels = random_split(decimals=decimals)
  weights = np.random.default_rng(1).integers(0, 4, (3, 60)).astype(float)
  whole = metrics.compute(scores, labels, weights=weights)
  monkeypatch.setattr(ranking, '_BLOCK', block)
  pieces = metrics.compute(scores, labels, weights=weights)
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
    decided = scores >= 0.5
    assert value('accuracy', scores, labels) == pytest.approx(
      1 - sklearn_metrics.hamming_loss(labels, decided), abs=1e-6
    )
    assert value('exact_match', scores, labels) == pytest.approx(
      sklearn_metrics.accuracy_score(labels, decided), abs=1e-6
    )
    for average in ('micro', 'macro'):
      assert value(f'{average}_f1', scores, labels) == pytest.approx(
        sklearn_metrics.f1_score(
          labels, decided, average=average, zero_division=0
        ),
        abs=1e-6,
      )

  def test_genres_without_positives_or_negatives_are_left_out_of_means(self):
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


class TestTopThree:
  # Named: genres 3, 0, 1 and 4, 2, 0.
  scores = np.array([[0.6, 0.5, 0.1, 0.9, 0.2], [0.3, 0.1, 0.4, 0.0, 0.8]])
  labels = np.array([[1.0, 0, 1, 1, 0], [0, 1, 0, 0, 0]])

  def test_names_the_best_first(self):
    assert metrics.top_k(self.scores).tolist() == [[3, 0, 1], [4, 2, 0]]

  def test_of_equal_scores_the_first_genre_wins(self):
    assert metrics.top_k(np.full((1, 5), 0.5)).tolist() == [[0, 1, 2]]

  def test_fewer_than_three_genres(self):
    assert metrics.top_k(np.array([[0.1, 0.9]])).tolist() == [[1, 0]]

  def test_values_worked_out_by_hand(self):
    assert value('precision_at_3', self.scores, self.labels) == pytest.approx(
      (2 / 3 + 0) / 2
    )
    assert value('recall_at_3', self.scores, self.labels) == pytest.approx(
      (2 / 3 + 0) / 2
    )
    assert value('hit_at_3', self.scores, self.labels) == 0.5


class TestTrivialPredictor:
  def test_constant_scores_have_the_base_rate_as_average_precision(self):
    _, labels = random_split(2)
    scores = np.tile(labels.mean(axis=0), (len(labels), 1))
    ranked = ranking.Ranked.by_genre(scores, labels)
    ones = np.ones((1, len(labels)))
    np.testing.assert_allclose(
      ranking.average_precision(ranked, ones)[0], labels.mean(axis=0)
    )
    np.testing.assert_allclose(ranking.roc_auc(ranked, ones)[0], 0.5)


class TestWeights:
  def test_many_weightings_at_once_equal_one_at_a_time(self):
    scores, labels = random_split(4)
    weights = np.random.default_rng(1).integers(0, 3, (5, len(scores)))
    together = metrics.compute(scores, labels, weights=weights.astype(float))
    for i, row in enumerate(weights):
      alone = metrics.compute(scores, labels, weights=row[None].astype(float))
      for name in metrics.METRICS:
        assert together[name][i] == pytest.approx(alone[name][0], abs=1e-12)

  def test_a_weighting_is_a_repetition_of_examples(self):
    scores, labels = random_split(5)
    counts = np.random.default_rng(2).integers(0, 3, len(scores))
    weighted = metrics.compute(scores, labels, weights=counts[None] * 1.0)
    repeated = metrics.compute(
      np.repeat(scores, counts, axis=0), np.repeat(labels, counts, axis=0)
    )
    for name in metrics.METRICS:
      assert weighted[name][0] == pytest.approx(repeated[name][0], abs=1e-12)


class TestDecisions:
  def test_decisions_can_be_given(self):
    scores, labels = random_split(6)
    decided = scores >= np.linspace(0.2, 0.8, 7)
    got = metrics.compute(
      scores, labels, decided=decided, names=('micro_f1', 'exact_match')
    )
    assert got.keys() == {'micro_f1', 'exact_match'}
    assert got['micro_f1'][0] == pytest.approx(
      sklearn_metrics.f1_score(labels, decided, average='micro')
    )
    assert got['exact_match'][0] == pytest.approx(
      sklearn_metrics.accuracy_score(labels, decided)
    )

  def test_three_genres_can_be_given(self):
    labels = np.array([[1, 0, 0, 1], [0, 1, 0, 0]])
    three = np.array([[0, 1, 1, 1], [1, 0, 1, 1]], bool)
    names = ('precision_at_3', 'recall_at_3', 'hit_at_3')
    got = metrics.compute(labels, labels, decided=three, names=names)
    assert [got[name][0] for name in names] == pytest.approx(
      [1 / 6, 1 / 4, 1 / 2]
    )


class TestBadInput:
  def test_other_than_three_genres_for_a_metric_of_three(self):
    scores, labels = random_split()
    with pytest.raises(ValueError, match='given 3 genres'):
      metrics.compute(scores, labels, decided=scores > 0.5, names=('hit_at_3',))

  def test_shapes_that_do_not_fit(self):
    with pytest.raises(ValueError, match=r'\(3, 2\).*\(3, 3\)'):
      metrics.compute(np.zeros((3, 2)), np.zeros((3, 3)))

  def test_no_example(self):
    with pytest.raises(ValueError, match='at least one example'):
      metrics.compute(np.zeros((0, 3)), np.zeros((0, 3)))

  def test_scores_that_are_not_finite(self):
    scores, labels = random_split()
    scores[3, 1] = np.nan
    with pytest.raises(ValueError, match='1 of 420 scores are not finite'):
      metrics.compute(scores, labels)
