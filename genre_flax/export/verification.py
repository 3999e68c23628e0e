"""Compares the scores of an export with those of this package."""

from collections.abc import Callable
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

# Maps uint8 [N, H, W, 3] to scores and logits, [N, num_genres].
Runner = Callable[[np.ndarray], tuple[Any, Any]]


def load_images(
  predictor: predictor_lib.Predictor, workdir: epath.PathLike
) -> tuple[np.ndarray, str]:
  """Posters of the test split, or synthetic ones if there is no dataset.

  Returns:
    Images, uint8 [N, H, W, 3], and a description of their source.
  """
  height, width = predictor.image_shape
  split = predictor.config.dataset.test_split
  source = f'posters of {split}'
  try:
    dataset = storage.open_dataset(predictor.data_dir(workdir))
    records = dataset.open_split(split)
    number = min(NUM_POSTERS, len(records))
    contents = [records[i].image for i in range(number)]
  except (errors.UserError, OSError, ValueError):
    contents = []
  if not contents:
    source = 'synthetic posters'
    contents = [
      images_lib.to_jpeg(synthetic.draw_poster(index)[0])
      for index in range(NUM_POSTERS)
    ]
  images = [
    image_decoding.decode_and_resize(content, height=height, width=width)
    for content in contents
  ]
  return np.stack(images), source


def verify(
  runner: Runner, predictor: predictor_lib.Predictor, workdir: epath.PathLike
) -> dict[str, Any]:
  """Verifies the scores of an export.

  Returns:
    {'posters', 'num_posters', 'tolerance', 'max_difference', 'num_same_top_3'}
    and, if the network was trained in another type than float32,
    'max_difference_in_training_dtype'.

  Raises:
    UserError: the scores differ by more than TOLERANCE or are not finite.
  """
  images, source = load_images(predictor, workdir)
  scores = _run(runner, images)
  # Accelerators round the inputs of float32 products by default.
  with jax.default_matmul_precision('float32'):
    expected = _predict(predictor.in_float32(), images)
  difference = float(np.abs(scores - expected).max())
  if not difference <= TOLERANCE:
    raise errors.UserError(
      f'The scores of the export differ by {difference:.2g} on {len(images)}'
      f' {source}; the tolerance is {TOLERANCE:g}. Nothing was written. If the'
      ' network is custom code, check that it is deterministic if train=False;'
      ' otherwise report this error.'
    )
  same = metrics.top_k(scores) == metrics.top_k(expected)
  found = {
    'posters': source,
    'num_posters': len(images),
    'tolerance': TOLERANCE,
    'max_difference': difference,
    'num_same_top_3': int(same.all(axis=1).sum()),
  }
  if predictor.config.model.dtype != 'float32':
    trained = _predict(predictor, images)
    found['max_difference_in_training_dtype'] = float(
      np.abs(scores - trained).max()
    )
  return found


def _predict(predictor, images):
  batch_size = predictor.fit_batch_size(_BATCH_SIZE)
  return predictor.predict(images, batch_size=batch_size)


def _run(runner, images):
  """Scores of all images, in batches of several sizes."""
  ends = [1, *range(_BATCH_SIZE, len(images), _BATCH_SIZE)]
  batches = [batch for batch in np.split(images, ends) if len(batch)]
  all_scores = []
  for batch in tqdm.tqdm(batches, 'Verifying', disable=None):
    scores, logits = map(np.asarray, runner(batch))
    if scores.shape != logits.shape or not np.isfinite(logits).all():
      raise errors.UserError(
        f'The export computes logits of shape {logits.shape} that are not'
        ' finite. Nothing was written. Check the checkpoint with `top3`.'
      )
    all_scores.append(scores)
  return np.concatenate(all_scores)
