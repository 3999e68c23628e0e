"""Embeddings of a frozen backbone, computed once for all runs of a machine."""

from collections.abc import Mapping
import dataclasses
import pathlib
import re
from typing import Any

from absl import logging
from etils import epath
import flax.linen as nn
import jax
import ml_collections
import numpy as np
import PIL

from genre_flax import config as config_lib
from genre_flax.data import input_pipeline
from genre_flax.datasets.posters import storage
from genre_flax.evaluation import evaluator
from genre_flax.models import forward
from genre_flax.models import params as params_lib
from genre_flax.models import side_inputs
from genre_flax.ops.cpu import onednn
from genre_flax.runtime import checksums
from genre_flax.runtime import custom
from genre_flax.runtime import files
from genre_flax.runtime import parallel
from genre_flax.training import inputs
from genre_flax.training import run_code

_PACKAGE = pathlib.Path(__file__).parent.parent


class FeatureSplit:
  """A split of {'features': float32 [F], 'labels': [num_genres]}.

  Extra columns are further entries, scalars by their names.
  """

  def __init__(self, arrays: Mapping[str, np.ndarray]):
    """Wraps 'features' [N, F], 'labels' [N, num_genres] and columns [N]."""
    self._arrays = dict(arrays)

  def blank_example(self) -> dict[str, np.ndarray]:
    """An example of zeros, for padding."""
    return {name: np.zeros_like(a[0]) for name, a in self._arrays.items()}

  def __len__(self) -> int:
    return len(self._arrays['features'])

  def __getitem__(self, index: int) -> dict[str, np.ndarray]:
    return {name: array[index] for name, array in self._arrays.items()}


def open_split(
  config: ml_collections.ConfigDict,
  dataset: storage.PosterDataset,
  name: str,
  *,
  model: nn.Module,
  variables: dict[str, Any],
) -> FeatureSplit:
  """The features of a split, read from the cache or computed.

  All hosts call it. The name of the file is a checksum of everything that
  determines the features: dataset, backbone, preprocessing and device.

  Args:
    config: of the run.
    dataset: with the split.
    name: of the split.
    model: with the methods `embed` and `classify`.
    variables: of the model, placed by `parallel.replicate`.
  """
  folder = config.dataset.cache_dir or files.cache_dir() / 'features'
  key = _key(config, dataset, name, model=model, variables=variables)
  path = epath.Path(folder).expanduser() / f'{key}.npz'
  split = inputs.open_split(config, dataset, name)
  stored = _read(path)
  if parallel.all_hosts_agree(stored is not None):
    logging.info('Reading the features of the split %s from %s.', name, path)
    return _with_text(stored, split)
  logging.info('Computing the features of the split %s: %s.', name, path)
  preprocessing = config_lib.preprocessing(config)

  def embed(variables, batch):
    features = forward.forward_in_chunks(
      model,
      variables,
      batch['image'],
      preprocessing,
      method='embed',
      **side_inputs.extra_inputs(model, batch, method='embed'),
    )
    # The loader adds 'mask' and 'index' again.
    others = batch.keys() - {'image', 'mask', 'index'}
    features = features.astype(np.float32)  # .npz has no bfloat16.
    return {'features': features, **{name: batch[name] for name in others}}

  outputs = evaluator.run_over_split(
    evaluator.gather_outputs(embed),
    variables,
    input_pipeline.eval_batches(
      dataclasses.replace(split, text=None),
      inputs.loader_options(
        config,
        config_lib.global_eval_batch_size(config, parallel.num_devices()),
      ),
    ),
    num_examples=len(split),
  )
  # Every host: the folder may be on its own disk.
  with files.storage_errors(path):
    path.parent.mkdir(parents=True, exist_ok=True)
  with files.replace_file(path) as beside, beside.open('wb') as file:
    np.savez(file, **outputs)
  return _with_text(outputs, split)


def _with_text(
  arrays: dict[str, np.ndarray], split: input_pipeline.DecodedSplit
) -> FeatureSplit:
  """Adds the text, so that its options do not belong to the cached file."""
  if split.text is None:
    return FeatureSplit(arrays)
  texts = [split.text(split.split[i].text) for i in range(len(split))]
  columns = {
    name: np.stack([each[name] for each in texts]) for name in texts[0]
  }
  return FeatureSplit(arrays | columns)


def _read(path: epath.Path) -> dict[str, np.ndarray] | None:
  """The arrays of a file; None where missing or damaged."""
  if not path.exists():
    return None
  try:
    # The zip format has a checksum per array.
    with path.open('rb') as file, np.load(file) as stored:
      return {name: stored[name] for name in stored.files}
  except Exception as e:  # Damaged bytes raise any exception.
    logging.warning('%s is damaged and will be recomputed: %s', path, e)
  return None


def _key(config, dataset, name, *, model, variables):
  """A checksum of everything that determines the features of a split."""
  # The head, with its norm and dropout, comes after the features.
  # In a custom network, any part may come before them.
  is_custom = custom.is_custom(config.model.name)
  backbone = model if is_custom else model.backbone
  weights = [
    [path, checksums.of_array(value)]
    for kind in ('params', 'batch_stats')
    for path, value in params_lib.flatten(variables[kind], sep='/').items()
    if path.startswith('backbone/')
    or (is_custom and not params_lib.is_head(path))
  ]
  code = [
    checksums.of_file(path)
    for folder in ('data', 'models', 'ops')
    for path in sorted(_PACKAGE.joinpath(folder).rglob('*.py'))
  ]
  if is_custom:
    code.append(run_code.describe(config, model)['modules'])
  return checksums.of_json(
    [
      dataset.card['fingerprint'],
      name,
      config_lib.image_shape(config),
      config.pixel_mean,
      config.pixel_scale,
      re.sub(r' at 0x\w+', '', repr(backbone)),
      config.model.reference_ops,
      weights,
      code,
      [PIL.__version__, jax.__version__, jax.devices()[0].device_kind],
      [jax.config.jax_default_matmul_precision, onednn.is_available()],
    ]
  )
