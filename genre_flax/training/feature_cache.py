"""Embeddings of a frozen backbone, computed once and stored in the workdir."""

from collections.abc import Mapping
from typing import Any

from absl import logging
from etils import epath
import flax.linen as nn
import ml_collections
import numpy as np

from genre_flax import config as config_lib
from genre_flax.data import input_pipeline
from genre_flax.datasets.posters import storage
from genre_flax.evaluation import evaluator
from genre_flax.models import forward
from genre_flax.models import params as params_lib
from genre_flax.runtime import checksums
from genre_flax.runtime import files
from genre_flax.runtime import parallel
from genre_flax.training import inputs


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
  workdir: epath.Path,
) -> FeatureSplit:
  """The features of a split, read from the workdir or computed.

  All hosts call it. Stored features are only used if backbone, preprocessing
  and dataset are equal.

  Args:
    config: of the run.
    dataset: with the split.
    name: of the split.
    model: with the methods `embed` and `classify`.
    variables: of the model, placed by `parallel.replicate`.
    workdir: of the run; features are stored in its folder 'features'.
  """
  key = _key(config, dataset, variables)
  path = workdir / 'features' / f'{name}.npz'
  stored = _read(path, key)
  if parallel.all_hosts_agree(stored is not None):
    return stored
  logging.info('Computing the features of the split %s.', name)
  preprocessing = config_lib.preprocessing(config)

  def embed(variables, batch):
    features = forward.forward_in_chunks(
      model,
      variables,
      batch['image'],
      preprocessing,
      method='embed',
      **forward.extra_inputs(model, batch, method='embed'),
    )
    # The loader adds 'mask' and 'index' again.
    others = batch.keys() - {'image', 'mask', 'index'}
    return {'features': features, **{name: batch[name] for name in others}}

  split = inputs.open_split(config, dataset, name)
  outputs = evaluator.run_over_split(
    evaluator.gather_outputs(embed),
    variables,
    input_pipeline.eval_batches(
      split,
      inputs.loader_options(
        config,
        config_lib.global_eval_batch_size(config, parallel.num_devices()),
      ),
    ),
    num_examples=len(split),
  )
  if parallel.is_main_host():
    with files.storage_errors(path):
      path.parent.mkdir(parents=True, exist_ok=True)
    with files.replace_file(path) as beside, beside.open('wb') as file:
      np.savez(file, key=key, **outputs)
  return FeatureSplit(outputs)


def _read(path: epath.Path, key: str) -> FeatureSplit | None:
  """The features stored under a key; None where missing or damaged."""
  if not path.exists():
    return None
  try:
    # The zip format has a checksum per array.
    with path.open('rb') as file, np.load(file) as stored:
      if str(stored['key']) == key:
        return FeatureSplit(
          {name: stored[name] for name in stored.files if name != 'key'}
        )
  except Exception as e:  # Damaged bytes raise any exception.
    logging.warning('%s is damaged and will be recomputed: %s', path, e)
  return None


def _key(config, dataset, variables):
  """A checksum of everything that determines the features."""
  return checksums.of_json(
    [
      dataset.card['fingerprint'],
      config_lib.image_shape(config),
      config.pixel_mean,
      config.pixel_scale,
      config_lib.to_dict(config)['model'],
      [
        [path, checksums.of_array(value)]
        for kind in ('params', 'batch_stats')
        for path, value in params_lib.flatten(variables[kind], sep='/').items()
        if not params_lib.is_head(path)
      ],
    ]
  )
