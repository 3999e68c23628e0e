"""Several networks as one predictor: the mean of their calibrated scores.

The mean of several trainings is the more right, the more their errors differ
(Hansen and Salamon, 1990; Lakshminarayanan et al., 2017).
"""

from collections.abc import Sequence
import dataclasses
import functools
from typing import Any

from absl import logging
import numpy as np
from scipy import special

from genre_flax.datasets.posters import storage
from genre_flax.evaluation import calibration as calibration_lib
from genre_flax.evaluation import evaluate
from genre_flax.inference import predictor as predictor_lib
from genre_flax.runtime import checksums
from genre_flax.runtime import errors


class _OfMeans(calibration_lib.Calibration):
  """Of scores that are calibrated, each by its network, before their mean."""

  def to_logits(self, logits: Any, xp: Any = np) -> Any:
    """The logits as they are."""
    del xp
    return logits


@dataclasses.dataclass(frozen=True)
class Ensemble:
  """Networks of the same genres; image sizes and kinds may differ.

  It scores as `predictor_lib.Predictor` does, and has no image size of its own.

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
    """[num_genres], of the data set that the first was trained on."""
    return self.members[0].label_prior

  @property
  def constant_answers(self) -> dict[str, tuple[int, ...]]:
    """See `meta.Meta`; of the first."""
    return self.members[0].constant_answers

  @property
  def step(self) -> str:
    """The steps of the checkpoints, in words."""
    return ' + '.join(str(member.step) for member in self.members)

  @property
  def which(self) -> str:
    """How they were asked for."""
    return f'{len(self.members)} networks, {self.members[0].which} of each'

  @functools.cached_property
  def calibration(self) -> calibration_lib.Calibration:
    """Leaves the mean as it is, and decides at the mean of the thresholds.

    Combinations are decided on where all know the same ones, with the means of
    what was fitted to each.
    """
    identity = calibration_lib.identity(self.genres)
    return _OfMeans(
      genres=self.genres,
      slope=identity.slope,
      intercept=identity.intercept,
      combinations=_mean_combinations(
        [member.calibration.combinations for member in self.members]
      ),
      thresholds={
        point: np.mean(
          [member.calibration.thresholds[point] for member in self.members],
          axis=0,
        )
        for point in calibration_lib.OPERATING_POINTS
      },
    )

  def checksum(self) -> str:
    """Tells what it predicts from what any other does."""
    return checksums.of_json([member.checksum() for member in self.members])

  def data_dir(self, workdir: str) -> str:
    """Where the data set was that the first was trained on."""
    return self.members[0].data_dir(workdir)

  def fit_batch_size(self, batch_size: int) -> int:
    """`batch_size`, rounded up to a multiple of the devices."""
    return self.members[0].fit_batch_size(batch_size)

  def evaluate_split(
    self, dataset: storage.PosterDataset, split: str, *, batch_size: int
  ) -> evaluate.Predictions:
    """Scores a whole split by each in turn; see `Predictor.evaluate_split`.

    The logits are those of the mean of the calibrated scores.
    """
    found = [
      member.evaluate_split(dataset, split, batch_size=batch_size)
      for member in self.members
    ]
    scores = mean_scores(
      [
        member.calibration.to_scores(predictions.logits)
        for member, predictions in zip(self.members, found, strict=True)
      ]
    )
    return evaluate.Predictions(special.logit(scores), found[0].labels)


def _mean_combinations(of_each):
  """None where not all know the same combinations."""
  first = of_each[0]
  if any(
    one is None or not np.array_equal(one.members, first.members)
    for one in of_each
  ):
    return None

  def mean(name):
    return np.mean([getattr(one, name) for one in of_each], axis=0)

  return dataclasses.replace(
    first,
    log_lift=mean('log_lift'),
    sharpness=float(mean('sharpness')),
    weight=float(mean('weight')),
  )


def mean_scores(scores: Sequence[np.ndarray]) -> np.ndarray:
  """The mean of some [..., num_genres], within (0, 1)."""
  tiny = np.finfo(np.float64).eps
  return np.clip(np.mean(scores, axis=0), tiny, 1 - tiny)


def combine(
  members: Sequence[predictor_lib.Predictor], *, origins: Sequence[str]
) -> predictor_lib.Predictor | Ensemble:
  """One predictor of some; of one, that one.

  Args:
    members: of `predictor_lib.restore`.
    origins: of each its workdir, for messages.

  Raises:
    InputError: their genres differ.
  """
  first, *others = members
  if not others:
    return first
  for member, origin in zip(others, origins[1:], strict=True):
    if member.genres != first.genres:
      lacking = sorted(set(first.genres) - set(member.genres))
      more = sorted(set(member.genres) - set(first.genres))
      raise errors.InputError(
        f'The networks of {origins[0]} and {origin} have different genres: the'
        f' second lacks {lacking} and adds {more}. Scores can be averaged of'
        ' the same genres, in the same order.'
      )
    if member.fingerprint != first.fingerprint:
      logging.warning(
        'The networks of %s and %s were trained on different data: what is a'
        ' test split for one, the other may have been trained on.',
        origins[0],
        origin,
      )
  return Ensemble(tuple(members))
