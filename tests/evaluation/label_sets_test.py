"""Tests of label sets and of their fit."""

import json

import jax.numpy as jnp
import numpy as np
import pytest
from scipy import special

from genre_flax.evaluation import calibration
from genre_flax.evaluation import calibration_fit
from genre_flax.evaluation import label_sets

GENRES = ('Comedy', 'Drama', 'Horror', 'Thriller')
# Horror occurs with Thriller, and never with Comedy.
COUNTS = [((0,), 40), ((1,), 30), ((2, 3), 25), ((0, 1), 20), ((1, 3), 5)]


def make(counts=COUNTS):
  return label_sets.from_counts(
    counts, num_genres=len(GENRES), sharpness=0.7, weight=0.6
  )


def sample(seed, num_examples, noise=2.0):
  """Labels that are label sets, and noisy logits."""
  rng = np.random.default_rng(seed)
  shares = np.array([count for _, count in COUNTS], float)
  members = make().members
  labels = members[
    rng.choice(len(members), num_examples, p=shares / shares.sum())
  ]
  logits = 2.0 * labels - 1.0 + rng.normal(0, noise, labels.shape)
  return logits, labels.astype(float)


def scores_by_definition(prior, logits):
  """The scores of one poster, one label set after the other."""
  films = np.array([count for _, count in COUNTS], float)
  scores = np.zeros(len(GENRES))
  total = 0.0
  for (genres, count), members in zip(COUNTS, prior.members, strict=True):
    independent = 1.0
    for genre in range(len(GENRES)):
      share = films[prior.members[:, genre]].sum() / films.sum()
      independent *= share if members[genre] else 1 - share
    mass = (count / films.sum() / independent) ** prior.weight
    for genre in genres:
      mass *= np.exp(logits[genre]) ** prior.sharpness
    scores[list(genres)] += mass
    total += mass
  return scores / total


def test_scores_follow_the_definition_in_numpy_and_jax():
  prior, (logits, _) = make(), sample(0, 20)
  got = prior.to_logits(logits)
  expected = [scores_by_definition(prior, row) for row in logits]
  np.testing.assert_allclose(special.expit(got), expected, rtol=1e-9)
  in_jax = prior.to_logits(jnp.asarray(logits, jnp.float32), jnp)
  assert in_jax.dtype == jnp.float32
  np.testing.assert_allclose(in_jax, got, rtol=1e-4, atol=1e-4)


def test_blocks_do_not_change_results(monkeypatch):
  prior, (logits, _) = make(), sample(0, 20)
  scores = special.expit(logits)
  whole = prior.to_logits(logits), prior.most_probable(scores)
  monkeypatch.setattr(label_sets, '_BLOCK', 7)
  np.testing.assert_allclose(prior.to_logits(logits), whole[0], rtol=1e-12)
  np.testing.assert_array_equal(prior.most_probable(scores), whole[1])


@pytest.mark.parametrize('dtype', [np.float32, np.float64])
def test_large_logits_stay_finite_and_ordered(dtype):
  logits = np.array([[9.0, -9, -9, -9], [25.0, -25, -25, -25]], dtype)
  got = make().to_logits(logits)
  assert np.isfinite(got).all()
  assert got[1, 0] > got[0, 0] > 0
  assert np.isfinite(make().to_logits(1000 * logits)).all()


@pytest.mark.parametrize('counts', [[((0,), 3), ((0, 1), 2)], [((1, 2), 4)]])
def test_logits_of_genres_in_none_or_all_sets_are_unchanged(counts):
  logits = np.array([[0.3, -1.0, 2.0, 0.5]])
  prior = make(counts)
  varies = prior.members.any(axis=0) & ~prior.members.all(axis=0)
  got = prior.to_logits(logits)
  np.testing.assert_array_equal(got[:, ~varies], logits[:, ~varies])
  assert (got[:, varies] != logits[:, varies]).all()


def test_only_the_most_frequent_sets_are_used(monkeypatch):
  monkeypatch.setattr(label_sets, 'MAX_LABEL_SETS', 3)
  np.testing.assert_array_equal(
    make().members, [[1, 0, 0, 0], [0, 1, 0, 0], [0, 0, 1, 1]]
  )


def test_most_probable_is_a_label_set():
  prior = make()
  scores = np.array([[0.9, 0.1, 0.1, 0.1], [0.4, 0.1, 0.8, 0.3]])
  np.testing.assert_array_equal(
    prior.most_probable(scores), [[1, 0, 0, 0], [0, 0, 1, 1]]
  )
  assert prior.most_probable(np.array([[0.0, 1.0, 0.0, 0.0]])).sum() == 1


def test_fit_improves_scores_of_new_posters():
  independent = calibration_fit.fit(*sample(0, 2000), genres=GENRES)
  joint = calibration_fit.fit(*sample(0, 2000), genres=GENRES, counts=COUNTS)
  assert independent.label_sets is None
  logits, labels = sample(1, 2000)

  def cross_entropy(fitted):
    z = fitted.to_logits(logits)
    return (np.logaddexp(0, z) - labels * z).sum(axis=1).mean()

  def exact_match(fitted):
    predicted = fitted.predict_genres(fitted.to_scores(logits), 'exact_match')
    return (predicted == (labels > 0)).all(axis=1).mean()

  assert cross_entropy(joint) < 0.9 * cross_entropy(independent)
  assert exact_match(joint) > 1.2 * exact_match(independent)


@pytest.mark.parametrize('counts', [[((0, 2), 90), ((1,), 1)], []])
def test_label_sets_that_do_not_help_are_not_used(counts):
  logits, labels = sample(0, 500)
  logits /= 2  # Calibrated, given the noise.
  assert calibration_fit.fit_label_sets(logits, labels, counts=counts) is None


def test_json_round_trip_in_a_calibration():
  fitted = calibration_fit.fit(*sample(0, 500), genres=GENRES, counts=COUNTS)
  stored = json.loads(json.dumps(fitted.to_dict()))
  logits, _ = sample(1, 10)
  restored = calibration.from_dict(stored, genres=GENRES)
  assert restored.label_sets is not None
  np.testing.assert_array_equal(
    restored.to_scores(logits), fitted.to_scores(logits)
  )
  for point in calibration.OPERATING_POINTS:
    np.testing.assert_array_equal(
      restored.thresholds[point], fitted.thresholds[point]
    )


@pytest.mark.parametrize(
  'change',
  [
    {'members': [[0], [9]]},
    {'members': [[-1], [0]]},
    {'members': []},
    {'members': [[]] * 5000, 'log_lift': [0.0] * 5000},
    {'log_lift': [0.0]},
    {'log_lift': [float('nan'), 0.0]},
    {'sharpness': 0.0},
    {'weight': -1.0},
    {'weight': float('inf')},
  ],
)
def test_invalid_values_are_rejected(change):
  stored = make([((0,), 1), ((1,), 2)]).to_dict()
  assert label_sets.from_dict(stored, num_genres=4).members.shape == (2, 4)
  with pytest.raises(ValueError, match=r'label sets|not indices of 4 genres'):
    label_sets.from_dict(stored | change, num_genres=4)
