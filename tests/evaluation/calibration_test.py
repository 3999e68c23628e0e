"""Tests of calibrations and of their fit."""

import dataclasses

import numpy as np
import pytest
from scipy import special
from sklearn import linear_model

from genre_flax.evaluation import calibration
from genre_flax.evaluation import calibration_fit
from genre_flax.runtime import errors

GENRES = ('Comedy', 'Drama', 'War')


def random_split(seed=0, num_examples=3000, slope=0.5, intercept=-1.0):
  """Overconfident logits, and labels sampled from the true scores."""
  rng = np.random.default_rng(seed)
  logits = rng.normal(0, 3, (num_examples, 3))
  truth = special.expit(slope * logits + intercept)
  return logits, (rng.random(logits.shape) < truth).astype(float)


def test_platt_is_regularized_logistic_regression():
  logits, labels = random_split(num_examples=200)
  x, y = logits[:, 1], labels[:, 1]
  slope, intercept = calibration_fit.fit_platt(x, y)
  # The gradient of the log posterior vanishes.
  residual = special.expit(slope * x + intercept) - y
  assert (residual * x).sum() + 2.0 * (slope - 1) == pytest.approx(0, abs=1e-5)
  assert residual.sum() + 2.0 * intercept == pytest.approx(0, abs=1e-5)
  free = linear_model.LogisticRegression(C=1e9).fit(x[:, None], y)
  assert slope == pytest.approx(free.coef_[0, 0], abs=0.1)


def test_few_posters_do_not_raise_the_scores_of_a_rare_genre():
  # The higher logit is that of the negative: the slope is low.
  logits, labels = np.array([-5.5, -4.5]), np.array([1.0, 0.0])
  for center, is_raised in ((0.0, True), (-5.0, False)):
    slope, intercept = calibration_fit.fit_platt(logits, labels, center=center)
    score = special.expit(slope * -5 + intercept)
    assert (score > 0.1) == is_raised
    assert slope < 1


def test_slope_is_positive_even_if_labels_contradict_the_logits():
  logits, labels = random_split(slope=-2.0)
  slope, _ = calibration_fit.fit_platt(logits[:, 0], labels[:, 0])
  assert slope > 0


def test_fit_lowers_the_calibration_error_of_new_posters():
  fitted = calibration_fit.fit(*random_split(0), genres=GENRES)
  logits, labels = random_split(1)
  before = calibration.expected_calibration_error(special.expit(logits), labels)
  after = calibration.expected_calibration_error(
    fitted.to_scores(logits), labels
  )
  assert before > 0.1
  assert after < 0.02


def test_expected_calibration_error_hand_computed():
  # Two bins: scores 0.2 with a third of positives, 0.9 with half.
  scores = np.array([[0.2], [0.2], [0.2], [0.9], [0.9]])
  labels = np.array([[1], [0], [0], [1], [0]])
  expected = 3 / 5 * abs(1 / 3 - 0.2) + 2 / 5 * abs(1 / 2 - 0.9)
  assert calibration.expected_calibration_error(
    scores, labels, num_bins=5
  ) == pytest.approx(expected)


def test_fitted_thresholds_improve_f1():
  logits, labels = random_split(2)
  fitted = calibration_fit.fit(logits, labels, genres=GENRES)
  new_logits, new_labels = random_split(3)
  scores = fitted.to_scores(new_logits)

  def f1(predicted):
    true = (predicted * new_labels).sum()
    return 2 * true / (predicted.sum() + new_labels.sum())

  assert f1(fitted.predict_genres(scores, 'micro_f1')) > f1(scores >= 0.5)


def test_exact_match_threshold_is_the_best_of_its_grid():
  scores = np.array([[0.6, 0.3, 0.1], [0.58, 0.4, 0.1], [0.2, 0.55, 0.52]])
  labels = np.array([[1, 0, 0], [1, 0, 0], [0, 1, 1]])
  # From 0.41 (0.40 predicts two genres for the second poster) to 0.52.
  threshold = calibration_fit.fit_exact_match_threshold(scores, labels)
  assert 0.41 <= threshold <= 0.52
  predicted = calibration.apply_thresholds(scores, threshold)
  np.testing.assert_array_equal(predicted, labels > 0)


def test_best_genre_is_predicted_if_none_reaches_its_threshold():
  scores = np.array([[0.1, 0.3, 0.2]])
  predicted = calibration.apply_thresholds(scores, np.full(3, 0.9))
  assert predicted.tolist() == [[False, True, False]]


def test_genre_without_positives_is_not_scaled():
  logits, labels = random_split()
  labels[:, 1] = 0
  fitted = calibration_fit.fit(logits, labels, genres=GENRES)
  assert fitted.slope[1] == 1
  assert fitted.intercept[1] == 0
  thresholds = fitted.thresholds['macro_f1']
  assert thresholds[1] == pytest.approx((thresholds[0] + thresholds[2]) / 2)


def test_genres_without_positives_have_their_training_prior():
  logits, labels = random_split()
  # Drama has positives in the validation split only, War in training only.
  labels[:, 2] = 0
  counts = [((0,), 90), ((0, 2), 9)]
  before = calibration_fit.uncalibrated(GENRES, counts=counts)
  fitted = calibration_fit.fit(logits, labels, genres=GENRES, counts=counts)
  for each in (before, fitted):
    np.testing.assert_allclose(each.to_scores(logits)[:, 1], 0.5 / 100)
  expected = special.expit(logits[:, [0, 2]])
  np.testing.assert_allclose(before.to_scores(logits)[:, [0, 2]], expected)
  alone = dataclasses.replace(fitted, label_sets=None).to_scores(logits)
  assert alone[:, 2].mean() == pytest.approx(9.5 / 100, rel=0.15)
  assert (np.argsort(alone[:, 2]) == np.argsort(logits[:, 2])).all()
  for thresholds in fitted.thresholds.values():
    assert thresholds[1] > 0.1


def test_calibration_of_other_genres_is_rejected():
  stored = calibration.identity(GENRES).to_dict()
  with pytest.raises(errors.InputError, match='fitted for the genres'):
    calibration.from_dict(stored, genres=('Comedy', 'Drama', 'News'))


def test_extreme_scores_do_not_tie():
  scores = calibration.identity(GENRES).to_scores(
    np.array([[20.0, 21.0, -800.0]], np.float32)
  )[0]
  assert scores[0] < scores[1] < 1
  assert 0 <= scores[2] < 1e-300
