"""The posters of a benchmark, as a dataset and as image files."""

import re
from typing import Any

from etils import epath
import jax
import ml_collections
import numpy as np

from benchmarks import libraries
from benchmarks import measurement
from genre_flax import config as config_lib
from genre_flax.datasets.posters import storage
from genre_flax.export import timm_architectures
from genre_flax.pretrained import timm_names
from genre_flax.runtime import platform
from genre_flax.training import inputs
from genre_flax.training import setup as setup_lib
from genre_flax.training import train_state


def write_files(dataset: storage.PosterDataset, folder: epath.Path) -> None:
  """Writes the posters as SPLIT/00000.jpg, ... and the labels as SPLIT.npy."""
  for split in dataset.card['splits']:
    (folder / split).mkdir(parents=True)
    records = dataset.open_split(split)
    labels = []
    for index in range(len(records)):
      record = records[index]
      (folder / split / f'{index:05d}.jpg').write_bytes(record.image)
      labels.append(record.labels)
    np.save(folder / f'{split}.npy', np.stack(labels))


def prepare(spec: measurement.Spec) -> dict[str, Any]:
  """Prepares the dataset and its image files, and describes the network.

  Args:
    spec: with `files` as an empty folder.

  Returns:
    Fields of `Spec`.
  """
  config = ml_collections.ConfigDict(spec.config)
  folder = epath.Path(spec.files)
  dataset = inputs.open_dataset(config, folder)
  files = folder / 'files'
  write_files(dataset, files)
  config.dataset.synthetic_posters = 0
  config.dataset.data_dir = dataset.data_dir
  _, setup = setup_lib.set_up(config, folder)
  params = setup.variable_shapes['params']
  return {
    'data_dir': dataset.data_dir,
    'files': str(files),
    'num_examples': {
      split: dataset.num_examples(split) for split in dataset.card['splits']
    },
    'num_genres': len(dataset.genres),
    'num_parameters': train_state.count_parameters(params),
    'image_shape': config_lib.image_shape(config),
    **describe_for_timm(config),
  }


def describe_for_timm(config: ml_collections.ConfigDict) -> dict[str, Any]:
  """The fields `timm` and `frozen` of `Spec`."""
  name = config.model.name
  if name not in libraries.TIMM_NETWORKS:
    return {}
  options, frozen = config.model[name], []
  if name == libraries.FREEZABLE:
    frozen = [
      entry.timm_name
      for entry in timm_names.efficientnet_lite_entries(options)
      if entry.collection == 'params'
      and not re.fullmatch(config.trainable, entry.path)
    ]
  architecture = timm_architectures.describe(
    name, options, config_lib.image_shape(config)
  )
  return {'timm': list(architecture), 'frozen': frozen}


if __name__ == '__main__':
  platform.configure()
  measurement.respond({'prepare': prepare}, platform=jax.default_backend)
