import itertools
import json

import jax.numpy as jnp
import numpy as np
import pytest
from scipy import special

from genre_flax.evaluation import calibration
from genre_flax.evaluation import calibration_fit
from genre_flax.evaluation import combinations
from genre_flax.evaluation import metrics

GENRES = ('Comedy', 'Drama', 'Horror', 'Thriller')
# Horror goes with Thriller, and never with Comedy.
COUNTS = [((0,), 40), ((1,), 30), ((0, 1), 20), ((2, 3), 25), ((1, 3), 5)]


def make(counts=COUNTS, *, sharpness=0.7, weight=0.6):
  return combinations.from_counts(
    counts, num_genres=len(GENRES), sharpness=sharpness, weight=weight
  )


def draw(seed, num_examples, noise=2.0):
  """Labels that are combinations, and logits that see them badly."""
  rng = np.random.default_rng(seed)
  shares = np.array([count for _, count in COUNTS], float)
  members = make().members
  labels = members[
    rng.choice(len(members), num_examples, p=shares / shares.sum())
  ]
  logits = 2.0 * labels - 1.0 + rng.normal(0, noise, labels.shape)
  return logits, labels.astype(float)


def scores_one_by_one(found, logits):
  """The definition, one combination after the other."""
  films = np.array([count for _, count in COUNTS], float)
  scores = np.zeros(len(GENRES))
  total = 0.0
  for (genres, count), members in zip(COUNTS, found.members, strict=True):
    independent = 1.0
    for genre in range(len(GENRES)):
      share = films[found.members[:, genre]].sum() / films.sum()
      independent *= share if members[genre] else 1 - share
    lift = count / films.sum() / independent
    mass = lift**found.weight
    for genre in genres:
      mass *= np.exp(logits[genre]) ** found.sharpness
    scores[list(genres)] += mass
    total += mass
  return scores / total


def test_scores_are_sums_over_the_combinations():
  found, (logits, _) = make(), draw(0, 20)
  expected = [scores_one_by_one(found, row) for row in logits]
  np.testing.assert_allclose(
    special.expit(found.to_logits(logits)), expected, rtol=1e-9
  )


def test_in_jax_they_are_the_same():
  found, (logits, _) = make(), draw(0, 20)
  got = found.to_logits(jnp.asarray(logits, jnp.float32), jnp)
  assert got.dtype == jnp.float32
  np.testing.assert_allclose(got, found.to_logits(logits), rtol=1e-4, atol=1e-4)


def test_many_posters_are_scored_as_few_are(monkeypatch):
  found, (logits, _) = make(), draw(0, 20)
  scores = special.expit(logits)
  at_once = found.to_logits(logits), found.likeliest(scores)
  three = found.name_together(scores, k=3)
  monkeypatch.setattr(combinations, '_BLOCK', 7)
  np.testing.assert_allclose(found.to_logits(logits), at_once[0], rtol=1e-12)
  np.testing.assert_array_equal(found.likeliest(scores), at_once[1])
  np.testing.assert_array_equal(found.name_together(scores, k=3), three)


@pytest.mark.parametrize('dtype', [np.float32, np.float64])
def test_sure_ones_are_finite_and_keep_their_order(dtype):
  logits = np.array([[9.0, -9, -9, -9], [25.0, -25, -25, -25]], dtype)
  got = make().to_logits(logits)
  assert np.isfinite(got).all()
  assert got[1, 0] > got[0, 0] > 0
  assert np.isfinite(make().to_logits(1000 * logits)).all()


@pytest.mark.parametrize('counts', [[((0,), 3), ((0, 1), 2)], [((1, 2), 4)]])
def test_a_genre_that_none_or_all_have_keeps_its_own_score(counts):
  logits = np.array([[0.3, -1.0, 2.0, 0.5]])
  found = make(counts)
  is_told = found.members.any(axis=0) & ~found.members.all(axis=0)
  got = found.to_logits(logits)
  np.testing.assert_array_equal(got[:, ~is_told], logits[:, ~is_told])
  assert (got[:, is_told] != logits[:, is_told]).all()


def test_they_tell_more_of_new_posters_than_each_genre_for_itself():
  alone = calibration_fit.fit(*draw(0, 2000), genres=GENRES)
  joint = calibration_fit.fit(*draw(0, 2000), genres=GENRES, counts=COUNTS)
  assert alone.combinations is None
  logits, labels = draw(1, 2000)

  def cross_entropy(fitted):
    z = fitted.to_logits(logits)
    return (np.logaddexp(0, z) - labels * z).sum(axis=1).mean()

  def exact(fitted):
    decided = fitted.decide(fitted.to_scores(logits), 'exact_match')
    return (decided == (labels > 0)).all(axis=1).mean()

  assert cross_entropy(joint) < 0.9 * cross_entropy(alone)
  assert exact(joint) > 1.2 * exact(alone)


def test_where_genres_come_independently_scores_hardly_change():
  rng = np.random.default_rng(0)
  logits = rng.normal(0, 1, (3000, 3))
  labels = (rng.random(logits.shape) < special.expit(logits)).astype(float)
  rest = (rng.random((90_000, 3)) < 0.5).astype(int)
  counts = [
    (tuple(np.flatnonzero(kind)), int((rest == kind).all(axis=1).sum()))
    for kind in itertools.product((0, 1), repeat=3)
  ]
  names = GENRES[:3]
  joint = calibration_fit.fit(logits, labels, genres=names, counts=counts)
  alone = calibration_fit.fit(logits, labels, genres=names)
  np.testing.assert_allclose(
    joint.to_scores(logits), alone.to_scores(logits), atol=0.03
  )


def test_what_misleads_is_left_out():
  logits, labels = draw(0, 500)
  logits /= 2  # As they should be, with so much noise.
  against = [((0, 2), 90), ((1,), 1)]
  assert (
    calibration_fit.fit_combinations(logits, labels, counts=against) is None
  )
  assert calibration_fit.fit_combinations(logits, labels, counts=[]) is None


def test_the_likeliest_is_one_that_films_have():
  found = make()
  scores = np.array([[0.9, 0.1, 0.1, 0.1], [0.4, 0.1, 0.8, 0.3]])
  np.testing.assert_array_equal(
    found.likeliest(scores), [[1, 0, 0, 0], [0, 0, 1, 1]]
  )
  assert found.likeliest(np.array([[0.0, 1.0, 0.0, 0.0]])).sum() == 1


def p_one_by_one(found, logits):
  """p(S | x), of its definition."""
  masses = found.sharpness * logits @ found.members.T
  return special.softmax(masses + found.weight * found.log_lift, axis=1)


@pytest.mark.parametrize('scale', [0.1, 1.0, 4.0])
def test_scores_tell_the_combinations_that_they_are_sums_of(scale):
  found, (logits, _) = make(), draw(0, 150)
  expected = p_one_by_one(found, scale * logits)
  scores = special.expit(found.to_logits(scale * logits))
  np.testing.assert_allclose(found.probabilities(scores), expected, atol=2e-4)
  # And as they stand in predictions.csv.
  rounded = found.probabilities(scores.round(6))
  np.testing.assert_allclose(rounded, expected, atol=1e-3)
  # One that is not there yet does not keep the others from it.
  np.testing.assert_allclose(
    found.probabilities(scores[:1]), expected[:1], atol=2e-4
  )


def test_means_of_scores_have_combinations_too():
  found, (logits, _) = make(), draw(0, 50)
  one, other = (special.expit(found.to_logits(z)) for z in (logits, -logits))
  mean = (one + other) / 2
  p = found.probabilities(mean)
  np.testing.assert_allclose(p.sum(axis=1), 1)
  np.testing.assert_allclose(p @ found.members, mean, atol=1e-4)


@pytest.mark.parametrize(
  'counts',
  [COUNTS, [((0,), 3), ((1,), 2)], [((), 1), ((0, 1), 2)], [((1, 2), 4)]],
)
def test_any_scores_give_probabilities(counts):
  scores = [[1, 1, 1, 1], [0, 0, 0, 0], [1, 0, 1, 0], [0.9, 0.9, 0.9, 0.1]]
  p = make(counts).probabilities(np.array(scores, float))
  assert (p >= 0).all()
  np.testing.assert_allclose(p.sum(axis=1), 1)


def test_where_they_are_too_many_the_highest_scores_are_named(monkeypatch):
  found = calibration_fit.fit(*draw(0, 500), genres=GENRES, counts=COUNTS)
  scores = found.to_scores(draw(1, 200, noise=4.0)[0])
  three = found.decide(scores, calibration.THREE_TOGETHER)
  highest = metrics.to_mask(metrics.top_k(scores), num_genres=len(GENRES))
  assert (three != highest).any()
  assert not found.combinations.are_too_many
  monkeypatch.setattr(combinations, '_MAX_SIZE', 5 * 4**2 - 1)
  np.testing.assert_array_equal(
    found.decide(scores, calibration.THREE_TOGETHER), highest
  )


def test_they_are_kept_with_the_calibration():
  fitted = calibration_fit.fit(*draw(0, 500), genres=GENRES, counts=COUNTS)
  stored = json.loads(json.dumps(fitted.to_dict()))
  logits, _ = draw(1, 10)
  read = calibration.from_dict(stored, genres=GENRES)
  np.testing.assert_array_equal(
    read.to_scores(logits), fitted.to_scores(logits)
  )
  del stored['combinations']  # As earlier versions wrote it.
  assert calibration.from_dict(stored, genres=GENRES).combinations is None


@pytest.mark.parametrize(
  'damage',
  [
    {'members': [[0], [9]]},
    {'members': [[-1], [0]]},
    {'members': []},
    {'members': [[]] * 5000},
    {'log_lift': [0.0]},
    {'log_lift': [float('nan'), 0.0]},
    {'sharpness': 0.0},
    {'weight': -1.0},
    {'weight': float('inf')},
  ],
)
def test_what_cannot_be_is_refused(damage):
  stored = make([((0,), 1), ((1,), 2)]).to_dict()
  assert combinations.from_dict(stored, num_genres=4).members.shape == (2, 4)
  with pytest.raises(ValueError, match=r'at least one|no genres|too many'):
    combinations.from_dict(stored | damage, num_genres=4)
