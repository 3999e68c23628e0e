"""Scored splits: the posters of a split with their labels and scores."""

import dataclasses
import functools

import numpy as np

from genre_flax.data import image_decoding
from genre_flax.datasets.posters import records as records_lib
from genre_flax.datasets.posters import storage
from genre_flax.evaluation import evaluator
from genre_flax.inference import ensemble
from genre_flax.inference import predictor as predictor_lib
from genre_flax.runtime import parallel
from genre_flax.training import objectives


@dataclasses.dataclass(frozen=True)
class ScoredSplit:
  """N posters with their labels and scores, in the order of the split.

  Attributes:
    name: of the split.
    predictor: a network or an ensemble.
    dataset: of the split.
    records: the posters.
    predictions: of the network, before calibration.
  """

  name: str
  predictor: predictor_lib.Predictor | ensemble.Ensemble
  dataset: storage.PosterDataset
  records: records_lib.Split
  predictions: evaluator.Predictions

  def __len__(self) -> int:
    return len(self.records)

  @property
  def genres(self) -> tuple[str, ...]:
    """The label names."""
    return self.predictor.genres

  @property
  def labels(self) -> np.ndarray:
    """float32 [N, num_genres] of 0 and 1."""
    return self.predictions.labels

  @functools.cached_property
  def scores(self) -> np.ndarray:
    """float64 [N, num_genres], calibrated probabilities."""
    return self.predictor.calibration.to_scores(self.predictions.logits)

  @functools.cached_property
  def ids(self) -> tuple[str, ...]:
    """The ids of the posters."""
    return tuple(self.records[i].id for i in range(len(self)))

  @functools.cached_property
  def without_text(self) -> 'ScoredSplit | None':
    """The split scored without the text; None without a text branch."""
    branches = self.predictions.branches
    if branches is None:
      return None
    predictor = self.predictor.without_text()
    to_logits = objectives.logits_fn(
      predictor.config, label_prior=predictor.label_prior
    )
    logits = branches[:, 0]
    if to_logits is not None:
      logits = np.asarray(to_logits(logits))
    predictions = evaluator.Predictions(logits, self.labels)
    return dataclasses.replace(
      self, predictor=predictor, predictions=predictions
    )

  def spread(self, number: int) -> list[int]:
    """At most `number` indices, evenly spaced over the split."""
    number = min(len(self), number)
    return [i * len(self) // number for i in range(number)]

  def decode(self, index: int, image_shape: tuple[int, int]) -> np.ndarray:
    """A poster, uint8 [H, W, 3], resized to (H, W)."""
    height, width = image_shape
    return image_decoding.decode_and_resize(
      self.records[index].image, height=height, width=width
    )


def score_split(
  predictor: predictor_lib.Predictor | ensemble.Ensemble,
  dataset: storage.PosterDataset,
  split: str,
  *,
  batch_size: int,
) -> ScoredSplit | None:
  """Scores a split; all hosts call it.

  The batch size, of all hosts, is rounded up to a multiple of the devices.

  Returns:
    The split on the main host, None on the others.

  Raises:
    InputError: the dataset has no such split, or other genres.
  """
  predictions = predictor.evaluate_split(
    dataset, split, batch_size=predictor.fit_batch_size(batch_size)
  )
  if not parallel.is_main_host():
    return None
  return ScoredSplit(
    split, predictor, dataset, dataset.open_split(split), predictions
  )
