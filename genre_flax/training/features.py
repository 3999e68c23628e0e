"""The features of a frozen backbone, computed once and kept in the workdir."""

import hashlib
import json

from absl import logging
from etils import epath
import numpy as np

from genre_flax import config as config_lib
from genre_flax.data import input_pipeline
from genre_flax.evaluation import evaluator
from genre_flax.models import forward
from genre_flax.models import params as params_lib
from genre_flax.runtime import files
from genre_flax.runtime import parallel
from genre_flax.training import run as run_lib
from genre_flax.training import train_state as train_state_lib


class FeatureSplit:
  """A split as features: {'features': float32 [F], 'labels': [num_genres]}."""

  def __init__(self, features: np.ndarray, labels: np.ndarray):
    """Wraps features [N, F] and labels [N, num_genres]."""
    self._features = features
    self._labels = labels
    self.num_genres = labels.shape[1]

  def blank_example(self) -> dict[str, np.ndarray]:
    """An example of zeros, to pad with."""
    return {
      'features': np.zeros_like(self._features[0]),
      'labels': np.zeros_like(self._labels[0]),
    }

  def __len__(self) -> int:
    return len(self._features)

  def __getitem__(self, index: int) -> dict[str, np.ndarray]:
    return {'features': self._features[index], 'labels': self._labels[index]}


def cached_split(
  run: run_lib.Run, state: train_state_lib.TrainState, name: str
) -> FeatureSplit:
  """The features of a split, from the workdir or computed now.

  All hosts call it. What is in the workdir is used only if the backbone, the
  preprocessing and the data set are the same.

  Args:
    run: with a network that has the methods `features` and `classify`.
    state: whose backbone is applied, placed by `parallel.replicate`.
    name: of the split.

  Returns:
    The split's features.
  """
  key = _key(run, state)
  path = run.workdir / 'features' / f'{name}.npz'
  stored = _read(path, key)
  if parallel.all_hosts_agree(stored is not None):
    return stored
  logging.info('Computing the features of the split %s.', name)
  split = run.decode_split(name)
  outputs = evaluator.run_over_split(
    _make_feature_step(run),
    {'params': state.params, 'batch_stats': state.batch_stats},
    input_pipeline.eval_batches(
      split,
      input_pipeline.LoaderOptions(
        global_batch_size=run.schedule.global_eval_batch_size,
        num_threads=run.config.dataset.num_threads,
        prefetch_batches=run.config.dataset.prefetch_batches,
      ),
    ),
    num_examples=len(split),
  )
  if parallel.is_main_host():
    with files.explaining(path):
      path.parent.mkdir(parents=True, exist_ok=True)
    with files.replacing(path) as beside, beside.open('wb') as file:
      np.savez(file, key=key, **outputs)
  return FeatureSplit(outputs['features'], outputs['labels'])


def _read(path: epath.Path, key: str) -> FeatureSplit | None:
  """What is stored under a key; None where that is nothing, or damaged."""
  if not path.exists():
    return None
  try:
    # The format has a checksum of each array.
    with path.open('rb') as file, np.load(file) as stored:
      if str(stored['key']) == key:
        return FeatureSplit(stored['features'], stored['labels'])
  except Exception as e:  # The bytes decide what is raised.
    logging.warning('%s is damaged, and computed anew: %s', path, e)
  return None


def _make_feature_step(run):
  preprocessing = config_lib.preprocessing(run.config)

  def feature_step(variables, batch):
    features = forward.forward_in_chunks(
      run.model, variables, batch['image'], preprocessing, method='embed'
    )
    return {'features': features, 'labels': batch['labels']}

  return evaluator.gather_outputs(feature_step)


def _key(run, state):
  """A hash of all that the features follow from."""
  digest = hashlib.sha256()
  described = [
    run.dataset.card['fingerprint'],
    config_lib.image_shape(run.config),
    run.config.pixel_mean,
    run.config.pixel_scale,
    config_lib.to_dict(run.config)['model'],
  ]
  digest.update(json.dumps(described).encode())
  trees = (state.params, state.batch_stats)
  for tree in trees:
    for path, value in sorted(params_lib.flatten(tree, sep='/').items()):
      if not params_lib.is_head(path):
        digest.update(path.encode())
        digest.update(np.ascontiguousarray(value).tobytes())
  return digest.hexdigest()
