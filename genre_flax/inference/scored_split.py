"""A split with what a network says of it: what all results are made from."""

import dataclasses
import functools

import numpy as np

from genre_flax.data import image_decoding
from genre_flax.datasets.posters import records as records_lib
from genre_flax.datasets.posters import storage
from genre_flax.evaluation import evaluate
from genre_flax.inference import ensemble
from genre_flax.inference import predictor as predictor_lib
from genre_flax.reports import contact_sheet
from genre_flax.runtime import parallel


@dataclasses.dataclass(frozen=True)
class ScoredSplit:
  """N posters, their labels and their scores, in the split's order.

  Attributes:
    name: of the split.
    predictor: the network, or several.
    dataset: that the split is of.
    records: the posters.
    predictions: of the network, before calibration.
  """

  name: str
  predictor: predictor_lib.Predictor | ensemble.Ensemble
  dataset: storage.PosterDataset
  records: records_lib.Split
  predictions: evaluate.Predictions

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
    """Of the posters."""
    return tuple(self.records[i].id for i in range(len(self)))

  def spread(self, number: int) -> list[int]:
    """At most `number` indices, spread evenly over the split."""
    number = min(len(self), number)
    return [i * len(self) // number for i in range(number)]

  def decode(self, index: int, image_shape: tuple[int, int]) -> np.ndarray:
    """A poster, uint8 [H, W, 3], as (H, W) asks."""
    height, width = image_shape
    return image_decoding.decode_and_resize(
      self.records[index].image, height=height, width=width
    )

  def entry(self, index: int) -> contact_sheet.Entry:
    """A poster with its scores and labels, to be shown."""
    return contact_sheet.Entry(
      image=self.decode(index, contact_sheet.IMAGE_SHAPE),
      scores=self.scores[index],
      labels=self.labels[index],
      name=self.ids[index],
    )


def score_split(
  predictor: predictor_lib.Predictor | ensemble.Ensemble,
  dataset: storage.PosterDataset,
  split: str,
  *,
  batch_size: int,
) -> ScoredSplit | None:
  """Scores a split; all hosts call it.

  Args:
    predictor: of `ensemble.combine`.
    dataset: with the split.
    split: its name.
    batch_size: posters a step over all hosts, rounded up to fit the devices.

  Returns:
    The split on the main host, None on the others.

  Raises:
    InputError: the data set has no such split, or other genres.
  """
  predictions = predictor.evaluate_split(
    dataset, split, batch_size=predictor.fit_batch_size(batch_size)
  )
  if not parallel.is_main_host():
    return None
  return ScoredSplit(
    split, predictor, dataset, dataset.open_split(split), predictions
  )
