"""The posters of a benchmark in the forms that the contenders read."""

import csv
from typing import Any

from etils import epath
import jax
import ml_collections
import numpy as np

from benchmarks import child
from benchmarks import contenders
from genre_flax import config as config_lib
from genre_flax.datasets.posters import build
from genre_flax.datasets.posters import columns
from genre_flax.datasets.posters import sources
from genre_flax.datasets.posters import storage
from genre_flax.models import efficientnet_lite
from genre_flax.pretrained import timm_architectures
from genre_flax.runtime import platform
from genre_flax.training import inputs
from genre_flax.training import setup as setup_lib
from genre_flax.training import train_state

_CSV = 'posters.csv'


def export(dataset: storage.PosterDataset, folder: epath.Path) -> None:
  """Writes the stored JPEGs as SPLIT/00000.jpg, ..., and labels as SPLIT.npy.

  Args:
    dataset: to read.
    folder: to write to.
  """
  for split in dataset.card['splits']:
    (folder / split).mkdir(parents=True)
    records = dataset.open_split(split)
    labels = []
    for index in range(len(records)):
      record = records[index]
      (folder / split / f'{index:05d}.jpg').write_bytes(record.image)
      labels.append(record.labels)
    np.save(folder / f'{split}.npy', np.stack(labels))


def repeat(
  dataset: storage.PosterDataset,
  files: epath.Path,
  *,
  num_posters: int,
  data_dir: epath.Path,
) -> None:
  """Prepares a data set of another size, with some posters left out or copied.

  Args:
    dataset: whose shares of the splits are kept.
    files: of `export`.
    num_posters: of all splits together.
    data_dir: to write to; every copy has an id of its own.
  """
  present = sum(dataset.num_examples(split) for split in dataset.card['splits'])
  rows = []
  for split in dataset.card['splits']:
    labels = np.load(files / f'{split}.npy')
    for copy in range(max(1, round(num_posters * len(labels) / present))):
      index = copy % len(labels)
      rows.append(
        [f'{split}{copy}', f'{split}/{index:05d}.jpg', split]
        + labels[index].astype(int).tolist()
      )
  data_dir.mkdir(parents=True)
  with (data_dir / _CSV).open('w') as f:
    writer = csv.writer(f)
    writer.writerow(['Id', 'Image', 'Split', *dataset.genres])
    writer.writerows(rows)
  build.build(
    sources.Source(
      data_dir / _CSV,
      files,
      columns.Columns(genre='', labels=dataset.genres, image='Image'),
    ),
    data_dir=data_dir,
  )


def prepare(spec: child.Spec) -> dict[str, Any]:
  """Writes a data set of `num_images` posters, or of all for 0, and its files.

  Args:
    spec: with the config, and the folder to write `files` to.

  Returns:
    What the children are told of the data set and of the network.
  """
  config, folder = (
    ml_collections.ConfigDict(spec.config),
    epath.Path(spec.files),
  )
  dataset = inputs.open_dataset(config, folder)
  files = folder / 'files'
  if not files.exists():
    export(dataset, files)
  if spec.num_images:
    data_dir = folder / str(spec.num_images)
    repeat(dataset, files, num_posters=spec.num_images, data_dir=data_dir)
    dataset = storage.open_dataset(data_dir)
  config.dataset.synthetic_posters = 0
  config.dataset.data_dir = dataset.data_dir
  _, setup = setup_lib.set_up(config, folder)
  params = setup.variable_shapes['params']
  return {
    'data_dir': dataset.data_dir,
    'files': str(files),
    'num_images': dataset.num_examples(config.dataset.train_split),
    'num_examples': {
      split: dataset.num_examples(split) for split in dataset.card['splits']
    },
    'num_genres': len(dataset.genres),
    'num_parameters': train_state.count_parameters(params),
    'stages': efficientnet_lite.make_stages(
      config.model.efficientnet_lite.variant
    ),
    'timm': _describe_for_timm(config),
  }


def _describe_for_timm(config):
  """See `child.Spec.timm`."""
  name = config.model.name
  if name not in contenders.OF_TIMM:
    return []
  return timm_architectures.describe(
    name, config.model[name], config_lib.image_shape(config)
  )


if __name__ == '__main__':
  platform.configure()
  child.answer(
    {'prepare': prepare},
    platform=jax.default_backend,
  )
