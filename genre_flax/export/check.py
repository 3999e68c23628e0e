"""Holds what was written against our own scores, before it is handed on."""

from collections.abc import Callable
import dataclasses
from typing import Any

from etils import epath
import jax
import numpy as np
import tqdm

from genre_flax.data import image_decoding
from genre_flax.datasets.posters import images as images_lib
from genre_flax.datasets.posters import storage
from genre_flax.datasets.posters import synthetic
from genre_flax.evaluation import metrics
from genre_flax.inference import predictor as predictor_lib
from genre_flax.runtime import errors

TOLERANCE = 1e-4
NUM_POSTERS = 100
_BATCH_SIZE = 32

# Takes uint8 [N, H, W, 3], gives scores and logits [N, num_genres].
Runner = Callable[[np.ndarray], tuple[Any, Any]]


@dataclasses.dataclass(frozen=True)
class Posters:
  """What the check is made on.

  Attributes:
    images: uint8 [N, H, W, 3].
    origin: of them, in words.
  """

  images: np.ndarray
  origin: str


def choose_posters(
  predictor: predictor_lib.Predictor, workdir: epath.PathLike
) -> Posters:
  """Posters of the test split, where the data set is there; else drawn ones."""
  height, width = predictor.image_shape
  contents, origin = _stored(predictor, workdir)
  if not contents:
    origin = 'synthetic posters'
    contents = [
      images_lib.to_jpeg(synthetic.draw_poster(index)[0])
      for index in range(NUM_POSTERS)
    ]
  decoded = [
    image_decoding.decode_and_resize(content, height=height, width=width)
    for content in contents
  ]
  return Posters(np.stack(decoded), origin)


def _stored(predictor, workdir):
  """The files of the test split's first posters, and what they are."""
  split = predictor.config.dataset.test_split
  try:
    dataset = storage.open_dataset(predictor.data_dir(workdir))
    records = dataset.open_split(split)
  except (errors.UserError, OSError, ValueError):
    return [], ''
  number = min(NUM_POSTERS, len(records))
  return [records[i].image for i in range(number)], f'posters of {split}'


def compare(
  runner: Runner, predictor: predictor_lib.Predictor, posters: Posters
) -> dict[str, Any]:
  """Compares the scores of what was written with our own.

  Args:
    runner: of what was written.
    predictor: as it was restored.
    posters: of `choose_posters`.

  Returns:
    {'posters', 'num_posters', 'tolerance', 'largest_difference',
    'same_top_three'} and, of a network that was trained in another type than
    float32, 'largest_difference_as_trained': from its scores in that type.

  Raises:
    UserError: they differ by more than TOLERANCE.
  """
  images = posters.images
  scores = _run(runner, images)
  # What accelerators round by default, they do not here.
  with jax.default_matmul_precision('float32'):
    own = _own_scores(predictor.in_float32(), images)
  difference = float(np.abs(scores - own).max())
  if not difference <= TOLERANCE:
    raise errors.UserError(
      f'The scores of what was written differ from our own by {difference:.2g}'
      f' on {len(images)} {posters.origin}; at most {TOLERANCE:g} is accepted,'
      ' so it is not kept. If the network is code of your own, see whether it'
      ' does the same with train=False each time; else report it.'
    )
  found = {
    'posters': posters.origin,
    'num_posters': len(images),
    'tolerance': TOLERANCE,
    'largest_difference': difference,
    'same_top_three': int(
      (metrics.top_k(scores) == metrics.top_k(own)).all(axis=1).sum()
    ),
  }
  if predictor.config.model.dtype != 'float32':
    as_trained = _own_scores(predictor, images)
    found['largest_difference_as_trained'] = float(
      np.abs(scores - as_trained).max()
    )
  return found


def _own_scores(predictor, images):
  batch_size = predictor.fit_batch_size(_BATCH_SIZE)
  return predictor.predict(images, batch_size=batch_size)


def _run(runner, images):
  """Scores of all images; batches of several sizes, as any is promised."""
  sizes = [1, *range(_BATCH_SIZE, len(images), _BATCH_SIZE)]
  pieces = []
  for piece in tqdm.tqdm(np.split(images, sizes), 'Checking', disable=None):
    if len(piece):
      scores, logits = map(np.asarray, runner(piece))
      if scores.shape != logits.shape or not np.isfinite(logits).all():
        raise errors.UserError(
          f'What was written gives logits {logits.shape} with numbers that are'
          ' not finite; it is not kept. Does the checkpoint itself?'
        )
      pieces.append(scores)
  return np.concatenate(pieces)
