"""Compares the scores of an export with those of this package."""

from collections.abc import Callable, Sequence
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

# Maps uint8 [N, H, W, 3], and the text of a network that takes text, to scores
# and logits, [N, num_genres].
Runner = Callable[..., tuple[Any, Any]]


def load_images(
  predictor: predictor_lib.Predictor, workdir: epath.PathLike
) -> tuple[np.ndarray, str, list[np.ndarray]]:
  """Posters of the test split, or synthetic ones if there is no dataset.

  Returns:
    Images, uint8 [N, H, W, 3]; a description of their source; and the arrays of
    `predictor.text.inputs`, none for posters without text.
  """
  height, width = predictor.image_shape
  records = _load_records(predictor, workdir)
  contents = [record.image for record in records]
  source = f'posters of {predictor.config.dataset.test_split}'
  if not records:
    source = 'synthetic posters'
    contents = [
      images_lib.to_jpeg(synthetic.draw_poster(index)[0])
      for index in range(NUM_POSTERS)
    ]
  images = [
    image_decoding.decode_and_resize(content, height=height, width=width)
    for content in contents
  ]
  text = []
  # A dataset without text has records without lines.
  if predictor.text is not None and any(record.text for record in records):
    features = [predictor.text(record.text) for record in records]
    text = [
      np.stack([values[each.name] for values in features])
      for each in predictor.text.inputs
    ]
  return np.stack(images), source, text


def _load_records(predictor, workdir):
  """The first records of the test split, if there is a dataset."""
  try:
    dataset = storage.open_dataset(predictor.data_dir(workdir))
    split = dataset.open_split(predictor.config.dataset.test_split)
    return [split[i] for i in range(min(NUM_POSTERS, len(split)))]
  except (errors.UserError, OSError, ValueError):
    return []


def verify(
  runner: Runner, predictor: predictor_lib.Predictor, workdir: epath.PathLike
) -> dict[str, Any]:
  """Verifies the scores of an export, with the text on the posters and without.

  Returns:
    {'posters', 'num_posters', 'tolerance', 'max_difference', 'num_same_top_3'};
    for a network that takes text 'num_with_text'; and, if the network was
    trained in another type than float32, 'max_difference_in_training_dtype'.

  Raises:
    UserError: the scores differ by more than TOLERANCE or are not finite.
  """
  images, source, text = load_images(predictor, workdir)
  inputs = []
  if predictor.text is not None:
    shapes = [((len(images), *i.shape), i.dtype) for i in predictor.text.inputs]
    inputs = [np.zeros(*each) for each in shapes]
  cases = [text, inputs] if text else [inputs]

  def predict_cases(predictor):
    return np.concatenate([predict(predictor, images, each) for each in cases])

  scores = np.concatenate([_run(runner, images, *each) for each in cases])
  # Accelerators round the inputs of float32 products by default.
  with jax.default_matmul_precision('float32'):
    expected = predict_cases(predictor.in_float32())
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
    'num_same_top_3': int(
      same.reshape(len(cases), len(images), -1).all(axis=(0, 2)).sum()
    ),
  }
  if predictor.text is not None:
    found['num_with_text'] = len(images) if text else 0
  if predictor.config.model.dtype != 'float32':
    trained = predict_cases(predictor)
    found['max_difference_in_training_dtype'] = float(
      np.abs(scores - trained).max()
    )
  return found


def predict(
  predictor: predictor_lib.Predictor,
  images: np.ndarray,
  text: Sequence[np.ndarray] = (),
) -> np.ndarray:
  """The scores of images, float64 [N, num_genres].

  Args:
    predictor: of the network.
    images: uint8 [N, H, W, 3].
    text: ids and weights [N, K] of a network that takes text; where the first
      weights are all 0, the posters are scored without text.
  """
  if text and not text[1][0].any():
    text = ()
    if predictor.calibration_without_text is not None:
      predictor = predictor.without_text()
  names = [each.name for each in (predictor.text.inputs if text else ())]
  return predictor.predict(
    images,
    batch_size=predictor.fit_batch_size(_BATCH_SIZE),
    text=[
      dict(zip(names, values, strict=True))
      for values in zip(*text, strict=True)
    ],
  )


def _run(runner, *arrays):
  """Scores of all images, in batches of several sizes."""
  ends = [1, *range(_BATCH_SIZE, len(arrays[0]), _BATCH_SIZE)]
  batches = zip(*(np.split(array, ends) for array in arrays), strict=True)
  batches = [batch for batch in batches if len(batch[0])]
  all_scores = []
  for batch in tqdm.tqdm(batches, 'Verifying', disable=None):
    scores, logits = map(np.asarray, runner(*batch))
    if scores.shape != logits.shape or not np.isfinite(logits).all():
      raise errors.UserError(
        f'The export computes logits of shape {logits.shape} that are not'
        ' finite. Nothing was written. Check the checkpoint with `top3`.'
      )
    all_scores.append(scores)
  return np.concatenate(all_scores)
