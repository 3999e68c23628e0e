"""From a workdir to scored genres; all else that is needed is in its meta."""

import dataclasses
import math

from etils import epath
import flax.linen as nn
import jax
import numpy as np

from genre_flax import config as config_lib
from genre_flax.checkpoints import checkpointer as checkpointer_lib
from genre_flax.data import input_pipeline
from genre_flax.datasets.posters import storage
from genre_flax.evaluation import evaluate
from genre_flax.inference import meta as meta_lib
from genre_flax.models import registry
from genre_flax.runtime import checksums
from genre_flax.runtime import errors
from genre_flax.runtime import parallel


@dataclasses.dataclass(frozen=True, kw_only=True)
class Predictor(meta_lib.Meta):
  """A trained network, ready to use, and what its checkpoint says of it.

  Attributes:
    step: of its checkpoint.
    which: how that was asked for: 'best', 'latest' or a number.
    variables: of the network, placed on the devices.
    eval_step: of `evaluate.make_eval_step`.
  """

  step: int
  which: str
  variables: evaluate.Variables
  eval_step: evaluate.EvalStep

  @property
  def preprocessing(self) -> config_lib.Preprocessing:
    """The preprocessing that the network was trained with."""
    return config_lib.preprocessing(self.config)

  @property
  def image_shape(self) -> tuple[int, int]:
    """(height, width) of the input, in pixels."""
    return config_lib.image_shape(self.config)

  def checksum(self) -> str:
    """Tells what it predicts from what any other network does."""
    leaves = jax.tree_util.tree_leaves_with_path(jax.device_get(self.variables))
    return checksums.of_json(
      [
        self.calibration.to_dict(),
        config_lib.to_dict(self.config),
        [
          [jax.tree_util.keystr(path), checksums.of_array(array)]
          for path, array in leaves
        ],
      ]
    )

  def in_float32(self) -> 'Predictor':
    """The same network, computing in float32; this one where it does."""
    if self.config.model.dtype == 'float32':
      return self
    config = self.config.copy_and_resolve_references()
    config.model.dtype = 'float32'
    changed = dataclasses.replace(self, config=config)
    return dataclasses.replace(changed, eval_step=_make_eval_step(changed))

  def data_dir(self, workdir: epath.PathLike) -> str:
    """Where the data set was that the network was trained on."""
    return self.config.dataset.data_dir or str(epath.Path(workdir) / 'data')

  def fit_batch_size(self, batch_size: int) -> int:
    """`batch_size`, rounded up to a multiple of the devices."""
    num_devices = parallel.num_devices()
    return math.ceil(batch_size / num_devices) * num_devices

  def predict(self, images: np.ndarray, *, batch_size: int) -> np.ndarray:
    """Scores images that `preprocess.decode_and_resize` made.

    Args:
      images: uint8 [N, H, W, 3].
      batch_size: images a step, of `fit_batch_size`; N is padded to a multiple
        of it.

    Returns:
      float64 [N, num_genres], calibrated probabilities.
    """
    pieces = []
    for start in range(0, len(images), batch_size):
      piece = images[start : start + batch_size]
      missing = batch_size - len(piece)
      batch = {
        'image': np.pad(piece, ((0, missing), (0, 0), (0, 0), (0, 0))),
        'labels': np.zeros((batch_size, len(self.genres)), np.float32),
        'mask': np.ones(batch_size, np.float32),
        'index': np.arange(batch_size, dtype=np.int32),
      }
      output = self.eval_step(self.variables, parallel.shard_batch(batch))
      logits = jax.device_get(output['logits'])
      pieces.append(logits[: len(piece)])
    return self.calibration.to_scores(np.concatenate(pieces))

  def evaluate_split(
    self, dataset: storage.PosterDataset, split: str, *, batch_size: int
  ) -> evaluate.Predictions:
    """Scores a whole split; all hosts call it.

    Args:
      dataset: with the genres that the network was trained on.
      split: its name.
      batch_size: posters a step over all hosts, of `fit_batch_size`.

    Returns:
      The predictions, in the split's order.

    Raises:
      InputError: the data set has no such split, or other genres.
    """
    if dataset.genres != self.genres:
      missing = sorted(set(self.genres) - set(dataset.genres))
      extra = sorted(set(dataset.genres) - set(self.genres))
      raise errors.InputError(
        f'The data set in {dataset.data_dir} has other genres than the network'
        f' was trained on: it lacks {missing} and adds {extra}.'
      )
    return evaluate.evaluate_split(
      self.eval_step,
      self.variables,
      input_pipeline.DecodedSplit(
        dataset.open_split(split, check_records=True),
        image_shape=self.image_shape,
      ),
      global_batch_size=batch_size,
      num_threads=self.config.dataset.num_threads,
      prefetch_batches=self.config.dataset.prefetch_batches,
    )


def restore(
  workdir: epath.PathLike,
  *,
  step: str = 'best',
  earlier: Predictor | None = None,
  allow_custom_code: bool = False,
) -> Predictor:
  """Restores the network of a checkpoint.

  Args:
    workdir: of the run.
    step: 'best' (by validation mean average precision), 'latest' or a number.
    earlier: of another checkpoint of the run; what it compiled is used again.
    allow_custom_code: whether a network of one's own, which the workdir names
      and this machine has, may be loaded, which runs its code.

  Returns:
    The predictor.

  Raises:
    InputError: there is no such checkpoint, it is damaged, or its network is
      code of one's own and that is not allowed.
  """
  parsed = {}

  def make_template(stored):
    """The variables of the network that the meta describes, as shapes."""
    meta = parsed['meta'] = meta_lib.parse(
      stored, origin=str(workdir), allow_custom_code=allow_custom_code
    )
    try:
      return _variable_shapes(meta)
    except errors.InputError:
      raise
    except Exception as e:  # Of values that no network has.
      raise errors.InputError(
        f'The network {meta.config.model.name!r} of {workdir} cannot be made'
        f' with what its config says: {e}'
      ) from e

  found, _, restored = checkpointer_lib.read_model(
    workdir, step=step, make_template=make_template
  )
  meta = parsed['meta']
  return Predictor(
    **vars(meta),
    step=found,
    which=step,
    variables=parallel.replicate(restored),
    eval_step=(
      earlier.eval_step if earlier is not None else _make_eval_step(meta)
    ),
  )


def make_model(
  meta: meta_lib.Meta, *, axis_name: str | None = None
) -> nn.Module:
  """The network that a meta describes.

  Args:
    meta: of a checkpoint.
    axis_name: the mapped axis of the devices; None outside of `parallelize`.

  Raises:
    InputError: it is one's own, and is not there.
  """
  return registry.create_from_config(
    meta.config.model, num_genres=len(meta.genres), axis_name=axis_name
  )


def _variable_shapes(meta):
  shapes = registry.variable_shapes(
    make_model(meta),
    name=meta.config.model.name,
    image_shape=config_lib.image_shape(meta.config),
    num_genres=len(meta.genres),
  )
  if meta.config.ema_decay > 0:
    shapes['ema_params'] = shapes['params']
  return shapes


def _make_eval_step(meta):
  return evaluate.make_eval_step(
    make_model(meta, axis_name=parallel.AXIS_NAME),
    config_lib.preprocessing(meta.config),
  )
