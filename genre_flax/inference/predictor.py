"""The predictor: a trained network, restored from a workdir."""

from __future__ import annotations

from collections.abc import Callable, Sequence
import dataclasses
import math
from typing import Any

from etils import epath
from etils import epy
import flax.linen as nn
import jax
import numpy as np

from genre_flax import config as config_lib
from genre_flax.checkpoints import released
from genre_flax.datasets.posters import extra_columns
from genre_flax.datasets.posters import text_features
from genre_flax.evaluation import evaluator
from genre_flax.inference import checkpoint_meta
from genre_flax.models import params
from genre_flax.models import registry
from genre_flax.models import side_inputs
from genre_flax.runtime import checksums
from genre_flax.runtime import custom
from genre_flax.runtime import errors
from genre_flax.runtime import parallel
from genre_flax.runtime import target
from genre_flax.training import objectives
from genre_flax.training import run_code

# Images are scored without them; they take a second to import.
with epy.lazy_imports():
  from genre_flax.checkpoints import checkpointer as checkpointer_lib
  from genre_flax.checkpoints import shapes
  from genre_flax.data import input_pipeline
  from genre_flax.datasets.posters import storage
  from genre_flax.datasets.posters import subsets


@dataclasses.dataclass(frozen=True, kw_only=True)
class Predictor(checkpoint_meta.Meta):
  """A trained network and the metadata of its checkpoint.

  Attributes:
    step: of the checkpoint.
    which: the requested step: 'best', 'latest' or a number.
    variables: of the network, replicated on the devices.
    eval_step: of `evaluator.make_eval_step`.
    text_reader: of image files, for `poster_text.borrow_engine`.
  """

  step: int
  which: str
  variables: evaluator.Variables
  eval_step: evaluator.EvalStep
  text_reader: str = ''

  @property
  def preprocessing(self) -> config_lib.Preprocessing:
    """The preprocessing of the training."""
    return config_lib.preprocessing(self.config)

  @property
  def image_shape(self) -> tuple[int, int]:
    """(height, width) of the input, in pixels."""
    return config_lib.image_shape(self.config)

  @property
  def extra_inputs(self) -> tuple[extra_columns.ExtraColumn, ...]:
    """The extra columns that the network takes."""
    columns = {column.name: column for column in self.extra_columns}
    return tuple(side_inputs.extra_inputs(make_model(self), columns).values())

  @property
  def text(self) -> text_features.TextFeatures | None:
    """The features of the text; None for a network of images alone."""
    return text_features.from_config(self.config.model)

  @property
  def is_text_alone(self) -> bool:
    """Whether the network ignores images."""
    return self.text is not None and self.calibration_without_text is None

  def without_text(self) -> Predictor:
    """The network of images alone, with a calibration of its own.

    Raises:
      InputError: the network has no branch for images.
    """
    if self.text is None:
      return self
    if self.is_text_alone:
      raise errors.InputError(
        f'The network {self.config.model.name!r} takes the text on posters'
        ' alone.'
      )
    config = self.config.copy_and_resolve_references()
    config.model.use_text = False
    changed = dataclasses.replace(
      self,
      config=config,
      calibration=self.calibration_without_text,
      calibration_without_text=None,
      variables={
        kind: {
          name: value
          for name, value in tree.items()
          if name != params.TEXT and not name.startswith('fusion_')
        }
        for kind, tree in self.variables.items()
      },
    )
    return dataclasses.replace(changed, eval_step=_make_eval_step(changed))

  def require_images_only(self, user: str) -> None:
    """Raises InputError if the network takes extra columns."""
    names = [column.name for column in self.extra_inputs]
    if names:
      raise errors.InputError(
        f'{user} does not support the network {self.config.model.name!r}, which'
        f' takes the extra columns {names} besides images.'
      )

  def checksum(self) -> str:
    """Checksum of the variables, the config and the calibration."""
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

  def in_float32(self) -> Predictor:
    """The same network, computing in float32."""
    if self.config.model.dtype == 'float32':
      return self
    config = self.config.copy_and_resolve_references()
    config.model.dtype = 'float32'
    changed = dataclasses.replace(self, config=config)
    return dataclasses.replace(changed, eval_step=_make_eval_step(changed))

  def data_dir(self, workdir: epath.PathLike) -> str:
    """The folder of the dataset of the training."""
    return self.config.dataset.data_dir or str(epath.Path(workdir) / 'data')

  def open_dataset(self, data_dir: str) -> storage.PosterDataset:
    """Opens a dataset; of that of the training, the part that the run used."""
    dataset = storage.open_dataset(data_dir)
    if not storage.has_posters_of(dataset.card, self.fingerprint):
      return dataset
    return subsets.select(dataset, self.config.dataset)

  def fit_batch_size(self, batch_size: int) -> int:
    """`batch_size`, rounded up to a multiple of the number of devices."""
    num_devices = parallel.num_devices()
    return math.ceil(batch_size / num_devices) * num_devices

  def predict(
    self,
    images: np.ndarray,
    *,
    batch_size: int,
    text: Sequence[dict[str, np.ndarray]] | None = None,
  ) -> np.ndarray:
    """Scores images of `image_decoding.decode_and_resize`.

    Extra columns have their defaults, see `image_inputs.with_extra_values`.

    Args:
      images: uint8 [N, H, W, 3].
      batch_size: images per step, of `fit_batch_size`; N is padded to a
        multiple of it.
      text: of `TextFeatures`, per image, or None for an image whose text was
        not read; for a network that takes text.

    Returns:
      float64 [N, num_genres], calibrated probabilities. Images without text
      have the calibration without text.
    """
    text = text or [None] * len(images)
    logits = []
    for start in range(0, len(images), batch_size):
      chunk = images[start : start + batch_size]
      missing = batch_size - len(chunk)
      batch = {
        'image': np.pad(chunk, ((0, missing), (0, 0), (0, 0), (0, 0))),
        'labels': np.zeros((batch_size, len(self.genres)), np.float32),
        'mask': np.ones(batch_size, np.float32),
        'index': np.arange(batch_size, dtype=np.int32),
        **{
          each.name: np.full(
            (batch_size, *each.shape), each.default, each.dtype
          )
          for each in self.side_inputs
        },
      }
      for row, values in enumerate(text[start : start + batch_size]):
        for name, value in (values or {}).items():
          batch[name][row] = value
      output = self.eval_step(self.variables, parallel.shard_batch(batch))
      logits.append(jax.device_get(output['logits'])[: len(chunk)])
    logits = np.concatenate(logits)
    scores = self.calibration.to_scores(logits)
    if self.calibration_without_text is not None:
      is_read = np.array([values is not None for values in text])[:, None]
      without = self.calibration_without_text.to_scores(logits)
      scores = np.where(is_read, scores, without)
    return scores

  def evaluate_split(
    self, dataset: storage.PosterDataset, split: str, *, batch_size: int
  ) -> evaluator.Predictions:
    """Scores a whole split; all hosts call it.

    Args:
      dataset: with the genres of the training.
      split: its name.
      batch_size: posters per step over all hosts, of `fit_batch_size`.

    Returns:
      The predictions, in the order of the split.

    Raises:
      InputError: the dataset has no such split, other genres, or other extra
        columns.
    """
    if dataset.genres != self.genres:
      missing = sorted(set(self.genres) - set(dataset.genres))
      extra = sorted(set(dataset.genres) - set(self.genres))
      raise errors.InputError(
        f'The genres of the dataset in {dataset.data_dir} differ from those of'
        f' the training: missing {missing}, extra {extra}.'
      )
    if self.text and 'text' not in dataset.card:
      raise errors.InputError(
        f'The dataset in {dataset.data_dir} has no text for the text branch of'
        ' the network. Add it with `python -m genre_flax.prepare --read_text'
        f' --data_dir={dataset.data_dir}`, or evaluate the image alone with'
        ' --no_text.'
      )
    stored = {column.name: column for column in dataset.extra_columns}
    for column in self.extra_inputs:
      other = stored.get(column.name)
      if other is None or other.categories != column.categories:
        raise errors.InputError(
          f'The dataset in {dataset.data_dir} has no extra column'
          f' {column.name!r} with the categories of the training:'
          f' {column.categories or "numbers"!r:.200}.'
        )
    return evaluator.evaluate_split(
      self.eval_step,
      self.variables,
      input_pipeline.DecodedSplit(
        dataset.open_split(split, check_records=True),
        image_shape=self.image_shape,
        text=self.text,
      ),
      input_pipeline.LoaderOptions(
        global_batch_size=batch_size,
        num_threads=self.config.dataset.num_threads,
        prefetch_batches=self.config.dataset.prefetch_batches,
      ),
    )


def restore(
  workdir: epath.PathLike,
  *,
  step: str = 'best',
  earlier: Predictor | None = None,
  allow_custom_code: bool = False,
) -> Predictor:
  """Restores the network of a checkpoint, or of a released model.

  Args:
    workdir: of the run; or a model of `released.find`.
    step: 'best' (by `config.best_metric`), 'latest' or a number.
    earlier: of another checkpoint of the run, to reuse compiled functions.
    allow_custom_code: as in `checkpoint_meta.parse`.

  Raises:
    InputError: there is no such checkpoint, it is damaged, or its network is
      custom code and that is not allowed.
  """
  parsed = []

  def parse(stored):
    parsed.append(
      checkpoint_meta.parse(
        stored, origin=str(workdir), allow_custom_code=allow_custom_code
      )
    )

  def make_template(stored):
    parse(stored)
    return _check_network(
      parsed[0], stored, workdir=workdir, is_new=earlier is None
    )

  folder = released.find(str(workdir))
  if folder is None:
    found_step, _, variables = checkpointer_lib.read_model(
      workdir, step=step, make_template=make_template
    )
  elif step not in ('best', 'latest'):
    raise errors.InputError(
      f'--step={step}: the released model {workdir} has a single checkpoint.'
    )
  else:
    found_step, stored, variables = released.read(folder)
    if str(workdir) in released.NAMES:
      parse(stored)  # Part of this package; comparing shapes takes time.
    else:
      template = make_template(stored)
      template.pop('ema_params', None)  # They are the parameters.
      shapes.require(variables, template, origin=folder)
  [meta] = parsed
  return Predictor(
    **vars(meta),
    step=found_step,
    which=step,
    variables=parallel.replicate(variables),
    eval_step=(
      earlier.eval_step if earlier is not None else _make_eval_step(meta)
    ),
  )


def _check_network(meta, stored, *, workdir, is_new):
  """Imports custom code, warns of changes, and returns variable shapes."""
  try:
    if is_new:
      # Before shapes are compared, which other code may have changed.
      model = make_model(meta, axis_name=parallel.AXIS_NAME)
      if custom.is_custom(meta.config.objective.name):
        custom.load(meta.config.objective.name, key='objective.name')
      code = run_code.describe(meta.config, model)
      run_code.warn_of_changes(stored.get('code'), code, workdir=workdir)
    return _variable_shapes(meta)
  except errors.InputError:
    raise
  except Exception as e:  # Depends on the values of the config.
    raise errors.InputError(
      f'The network {meta.config.model.name!r} of {workdir} cannot be created'
      f' from its config: {e}'
    ) from e


def make_model(
  meta: checkpoint_meta.Meta, *, axis_name: str | None = None
) -> nn.Module:
  """The network of a checkpoint; `axis_name` is None outside of `parallelize`.

  Extra inputs are inputs of the network inside of it, and have their defaults
  outside.

  Raises:
    InputError: it is custom code that cannot be imported.
  """
  model = registry.create_from_config(
    meta.config.model, num_genres=len(meta.genres), axis_name=axis_name
  )
  if axis_name is None:
    return side_inputs.with_defaults(model, meta.side_inputs)
  return model


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
  return evaluator.make_eval_step(
    make_model(meta, axis_name=parallel.AXIS_NAME),
    config_lib.preprocessing(meta.config),
    logits_fn=objectives.logits_fn(meta.config, label_prior=meta.label_prior),
  )


class OneDevice:
  """A copy of a network's variables on one device, for single-device code."""

  def __init__(self, predictor: Predictor):
    """Copies the variables of a predictor to the first device."""
    self._device = jax.local_devices()[0]
    self.variables = jax.device_put(
      jax.device_get(predictor.variables), self._device
    )

  def run(self, function: Callable[..., Any], *arguments: Any) -> Any:
    """Calls a function of the variables and of arrays, on the device.

    Returns:
      The output of the function, as arrays of the host.
    """
    with (
      jax.default_device(self._device),
      target.traced_for(self._device.platform),
    ):
      return jax.device_get(function(self.variables, *arguments))
