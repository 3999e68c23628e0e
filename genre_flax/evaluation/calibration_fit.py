"""Fits a calibration to a validation split."""

from collections.abc import Sequence
import dataclasses

import numpy as np
from scipy import optimize
from scipy import special

from genre_flax.evaluation import calibration
from genre_flax.evaluation import label_sets as label_sets_lib


def uncalibrated(
  genres: Sequence[str], *, counts: Sequence[label_sets_lib.Count]
) -> calibration.Calibration:
  """Scores that are sigmoids of the logits, or the prior of unseen genres.

  A genre without positives in the training split is unseen. The network has
  learned nothing about it, so every poster gets the prior of `smoothed_prior`.

  Args:
    genres: the label names.
    counts: the label sets of the training split; empty if they are unknown.
  """
  prior, is_seen = smoothed_prior(counts, num_genres=len(genres))
  return dataclasses.replace(
    calibration.identity(genres),
    slope=np.where(is_seen, 1.0, 0.0),
    intercept=np.where(is_seen, 0.0, special.logit(prior)),
  )


def smoothed_prior(
  counts: Sequence[label_sets_lib.Count], *, num_genres: int
) -> tuple[np.ndarray, np.ndarray]:
  """The smoothed shares of the genres in the training split.

  With n of N posters, the share is (n + 1/2) / (N + 1), the mean of the
  posterior under the prior of Jeffreys. It is above 0 without positives.

  Args:
    counts: the label sets of the split; empty if they are unknown.
    num_genres: L.

  Returns:
    The shares [L], and whether the genres have positives, bool [L]; if they are
    unknown, 0.5 and True.
  """
  posters = np.array([number for _, number in counts])
  positives = posters @ label_sets_lib.to_members(
    [indices for indices, _ in counts], num_genres=num_genres
  )
  prior = (positives + 0.5) / (posters.sum() + 1)
  return prior, (positives > 0) | (not counts)


def fit(
  logits: np.ndarray,
  labels: np.ndarray,
  *,
  genres: Sequence[str],
  counts: Sequence[label_sets_lib.Count] = (),
) -> calibration.Calibration:
  """Fits scaling, label sets and operating points to a validation split.

  Args:
    logits: [N, L].
    labels: [N, L] of 0 and 1.
    genres: the label names.
    counts: the label sets of the training split; empty for no prior.

  Returns:
    The calibration. Unseen genres have their prior, as in `uncalibrated`. Other
    genres without positives are fitted to their prior as the label of every
    poster, and their threshold is the mean of the others; that of unseen genres
    is 1.
  """
  logits = np.asarray(logits, np.float64)
  labels = np.asarray(labels, np.float64)
  start = uncalibrated(genres, counts=counts)
  slope, intercept = start.slope.copy(), start.intercept.copy()
  occurs = labels.any(axis=0) & (start.slope > 0)
  prior, _ = smoothed_prior(counts, num_genres=len(genres))
  for i in np.flatnonzero(start.slope):
    if occurs[i] or counts:
      targets = labels[:, i] if occurs[i] else np.full(len(labels), prior[i])
      slope[i], intercept[i] = fit_platt(
        logits[:, i], targets, center=special.logit(prior[i])
      )
  scaled = slope * logits + intercept
  label_sets = fit_label_sets(scaled, labels, counts=counts)
  if label_sets is not None:
    scaled = label_sets.to_logits(scaled)
  scores = special.expit(scaled)
  thresholds = np.full(len(genres), 0.5)
  for i in np.flatnonzero(occurs):
    thresholds[i] = fit_threshold(scores[:, i], labels[:, i])
  if occurs.any():
    thresholds[~occurs] = thresholds[occurs].mean()
  thresholds[slope == 0] = 1.0  # Never predicted: their scores are the prior.
  micro = fit_threshold(scores.ravel(), labels.ravel())
  exact = fit_exact_match_threshold(scores, labels)
  return calibration.Calibration(
    genres=tuple(genres),
    slope=slope,
    intercept=intercept,
    thresholds={
      'micro_f1': np.full(len(genres), micro),
      'macro_f1': thresholds,
      'exact_match': np.full(len(genres), exact),
    },
    label_sets=label_sets,
  )


# Precision of the Gaussian prior of the parameters of Platt scaling.
_PRECISION = 2.0
_MIN_SLOPE = 0.05  # Scores must not decrease with their logits.


def fit_platt(
  logits: np.ndarray,
  labels: np.ndarray,
  *,
  center: float = 0.0,
  num_steps: int = 50,
) -> tuple[float, float]:
  """Platt scaling of one genre: p = sigmoid(slope * logit + intercept).

  Maximum a posteriori by Newton's method, with a Gaussian prior around the
  identity, so that a genre with few positives is scaled little (Platt, 1999,
  with a prior on the parameters instead of the targets). The prior is of the
  slope about `center`: with few posters, another slope about 0 would raise the
  scores of a rare genre, whose logits are all low.

  Args:
    logits: [N].
    labels: [N] in [0, 1].
    center: the logit of the genre's share of the training split.
    num_steps: at most; the problem is convex, so few are needed.

  Returns:
    (slope, intercept), the slope above 0.
  """
  identity_parameters = np.array([1.0, center])
  parameters = identity_parameters.copy()
  inputs = np.stack([logits - center, np.ones_like(logits)], axis=1)

  def cost(p):
    z = inputs @ p
    data = np.logaddexp(0, z).sum() - labels @ z
    return data + 0.5 * _PRECISION * ((p - identity_parameters) ** 2).sum()

  for _ in range(num_steps):
    p = special.expit(inputs @ parameters)
    gradient = inputs.T @ (p - labels)
    gradient += _PRECISION * (parameters - identity_parameters)
    hessian = (inputs * (p * (1 - p))[:, None]).T @ inputs
    hessian += _PRECISION * np.eye(2)
    step = np.linalg.solve(hessian, gradient)
    scale = 1.0
    while cost(parameters - scale * step) > cost(parameters) and scale > 1e-6:
      scale /= 2
    parameters = parameters - scale * step
    if np.abs(scale * step).max() < 1e-9:
      break
  slope = max(float(parameters[0]), _MIN_SLOPE)
  return slope, float(parameters[1]) - slope * center


def fit_label_sets(
  logits: np.ndarray,
  labels: np.ndarray,
  *,
  counts: Sequence[label_sets_lib.Count],
) -> label_sets_lib.LabelSets | None:
  """Fits sharpness and weight of the label sets by the cross-entropy.

  Args:
    logits: [N, L], scaled.
    labels: [N, L] of 0 and 1.
    counts: the label sets of the training split.

  Returns:
    The label sets; None if the cross-entropy is lower without them.
  """
  if len(counts) < 2:
    return None
  first = label_sets_lib.from_counts(
    counts, num_genres=logits.shape[1], sharpness=0.8, weight=0.5
  )

  def make(parameters):
    sharpness, weight = map(float, parameters)
    return dataclasses.replace(first, sharpness=sharpness, weight=weight)

  def cost(logits):
    return (np.logaddexp(0, logits) - labels * logits).sum()

  result = optimize.minimize(
    lambda parameters: cost(make(parameters).to_logits(logits)),
    x0=(first.sharpness, first.weight),
    bounds=((_MIN_SLOPE, 2.0), (0.0, 2.0)),
    method='Nelder-Mead',
    options={'xatol': 0.01, 'fatol': 0.01, 'maxfev': 60},
  )
  return make(result.x) if result.fun < cost(logits) else None


def fit_threshold(scores: np.ndarray, labels: np.ndarray) -> float:
  """The threshold with the highest F1, of one genre or of all pairs.

  It maximizes the mean of the observed F1 and the F1 that is expected under the
  scores (Lipton et al., 2014): the first alone overfits if a genre has few
  positives.

  Args:
    scores: [N], calibrated probabilities.
    labels: [N] of 0 and 1.

  Returns:
    A threshold between two scores.
  """
  order = np.argsort(-scores, kind='stable')
  ranked, truth = scores[order], labels[order]
  counts = np.arange(1, len(ranked) + 1)
  observed = 2 * np.cumsum(truth) / (counts + truth.sum())
  expected = 2 * np.cumsum(ranked) / (counts + ranked.sum())
  is_end = np.append(ranked[1:] < ranked[:-1], True)
  quality = np.where(is_end, observed + expected, -np.inf)
  best = int(np.argmax(quality))
  below = ranked[best + 1] if best + 1 < len(ranked) else 0.0
  return float((ranked[best] + below) / 2)


def fit_exact_match_threshold(scores: np.ndarray, labels: np.ndarray) -> float:
  """The threshold for all genres with the most exact matches.

  Args:
    scores: [N, L], calibrated probabilities.
    labels: [N, L] of 0 and 1.

  Returns:
    One of 0.20, 0.21, ..., 0.70; of ties the middle one.
  """
  candidates = np.arange(20, 71) / 100

  def num_matches(threshold):
    predicted = calibration.apply_thresholds(scores, threshold)
    return (predicted == (labels > 0)).all(axis=1).sum()

  matches = np.array([num_matches(threshold) for threshold in candidates])
  best = np.flatnonzero(matches == matches.max())
  return float(candidates[best[len(best) // 2]])
