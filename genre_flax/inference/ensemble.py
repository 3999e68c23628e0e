"""Ensembles: the mean of the calibrated scores of several networks.

The less the errors of the networks correlate, the better the mean (Hansen and
Salamon, 1990; Lakshminarayanan et al., 2017).
"""

from __future__ import annotations

from collections.abc import Sequence
import dataclasses
import functools
from typing import Any

from absl import logging
from etils import epy
import numpy as np

from genre_flax.evaluation import calibration as calibration_lib
from genre_flax.evaluation import evaluator
from genre_flax.inference import predictor as predictor_lib
from genre_flax.runtime import errors

with epy.lazy_imports():
  from scipy import special

  from genre_flax.datasets.posters import storage


class _MeanCalibration(calibration_lib.Calibration):
  """Of an ensemble, whose logits are those of calibrated scores."""

  def to_logits(self, logits: Any, xp: Any = np) -> Any:
    """The logits, unchanged."""
    del xp
    return logits


@dataclasses.dataclass(frozen=True)
class Ensemble:
  """Networks with the same genres; architectures and image sizes may differ.

  It has the interface of `predictor_lib.Predictor`, but no input size.

  Attributes:
    members: at least one.
  """

  members: tuple[predictor_lib.Predictor, ...]

  @property
  def genres(self) -> tuple[str, ...]:
    """The label names."""
    return self.members[0].genres

  @property
  def label_prior(self) -> np.ndarray:
    """[num_genres], of the training of the first member."""
    return self.members[0].label_prior

  @property
  def constant_baseline(self) -> dict[str, tuple[int, ...]]:
    """Of the first member; see `checkpoint_meta.Meta`."""
    return self.members[0].constant_baseline

  @property
  def step(self) -> str:
    """The steps of the checkpoints, joined by ' + '."""
    return ' + '.join(str(member.step) for member in self.members)

  @property
  def which(self) -> str:
    """The number of members and the requested step."""
    return f'{len(self.members)} networks, {self.members[0].which} of each'

  @functools.cached_property
  def calibration(self) -> calibration_lib.Calibration:
    """Keeps the scores; operating points are means over the members.

    The label sets are used if those of all members are equal.
    """
    identity = calibration_lib.identity(self.genres)
    return _MeanCalibration(
      genres=self.genres,
      slope=identity.slope,
      intercept=identity.intercept,
      label_sets=_mean_label_sets(
        [member.calibration.label_sets for member in self.members]
      ),
      thresholds={
        point: np.mean(
          [member.calibration.thresholds[point] for member in self.members],
          axis=0,
        )
        for point in calibration_lib.OPERATING_POINTS
      },
    )

  def data_dir(self, workdir: str) -> str:
    """The folder of the dataset of the training of the first member."""
    return self.members[0].data_dir(workdir)

  def open_dataset(self, data_dir: str) -> storage.PosterDataset:
    """As of the first member."""
    return self.members[0].open_dataset(data_dir)

  def fit_batch_size(self, batch_size: int) -> int:
    """`batch_size`, rounded up to a multiple of the number of devices."""
    return self.members[0].fit_batch_size(batch_size)

  def evaluate_split(
    self, dataset: storage.PosterDataset, split: str, *, batch_size: int
  ) -> evaluator.Predictions:
    """Scores a split by each member in turn; see `Predictor.evaluate_split`.

    The logits are those of the mean of the calibrated scores.

    Raises:
      InputError: it is part of a split of which members trained on other parts.
    """
    parts = {member.fingerprint for member in self.members}
    if split in dataset.parts and len(parts) > 1:
      raise errors.InputError(
        f'The networks were trained on different parts of the dataset, {parts}:'
        f' the split {split!r} of one overlaps with the training split of'
        ' another. Evaluate the ensemble on the test split.'
      )
    predictions = [
      member.evaluate_split(dataset, split, batch_size=batch_size)
      for member in self.members
    ]
    scores = mean_scores(
      [
        member.calibration.to_scores(each.logits)
        for member, each in zip(self.members, predictions, strict=True)
      ]
    )
    return evaluator.Predictions(special.logit(scores), predictions[0].labels)


def _mean_label_sets(label_sets):
  """The mean of the fitted values; None if the label sets differ."""
  first = label_sets[0]
  if any(
    each is None or not np.array_equal(each.members, first.members)
    for each in label_sets
  ):
    return None

  def mean(name):
    return np.mean([getattr(each, name) for each in label_sets], axis=0)

  return dataclasses.replace(
    first,
    log_lift=mean('log_lift'),
    sharpness=float(mean('sharpness')),
    weight=float(mean('weight')),
  )


def mean_scores(scores: Sequence[np.ndarray]) -> np.ndarray:
  """The mean of several [..., num_genres], clipped to the open (0, 1)."""
  tiny = np.finfo(np.float64).eps
  return np.clip(np.mean(scores, axis=0), tiny, 1 - tiny)


def combine(
  members: Sequence[predictor_lib.Predictor], *, origins: Sequence[str]
) -> predictor_lib.Predictor | Ensemble:
  """The ensemble of some predictors of the workdirs `origins`, or the only one.

  Raises:
    InputError: their genres differ.
  """
  first, *others = members
  if not others:
    return first
  for member, origin in zip(others, origins[1:], strict=True):
    if member.genres != first.genres:
      missing = sorted(set(first.genres) - set(member.genres))
      extra = sorted(set(member.genres) - set(first.genres))
      raise errors.InputError(
        f'The genres of {origin} differ from those of {origins[0]}: missing'
        f' {missing}, extra {extra}. The networks of an ensemble need the same'
        ' genres in the same order.'
      )
    wholes = [
      storage.whole_fingerprint(each.fingerprint) for each in (first, member)
    ]
    if wholes[0] != wholes[1]:
      logging.warning(
        '%s and %s were trained on different datasets: the test split of one'
        ' may overlap with the training split of the other.',
        origins[0],
        origin,
      )
  return Ensemble(tuple(members))
