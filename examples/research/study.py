r"""A study with a custom network, side input, loss and objective, and folds.

python -m examples.research.study --output=/tmp/study

Generates posters with a year, which depends on their genres, and prepares them.
Trains a custom network in several ways, and prints two comparisons: of methods,
one with three seeds, in LaTeX; and of three folds. Takes about two minutes on
two CPU cores.
"""

import pathlib

from absl import flags
from absl import logging
from ml_collections import config_dict
import pandas as pd

from configs import default
from genre_flax.datasets.posters import build
from genre_flax.datasets.posters import columns
from genre_flax.datasets.posters import sources
from genre_flax.datasets.posters import synthetic
from genre_flax.evaluation import comparison
from genre_flax.reports import run_tables
from genre_flax.reports import split_report
from genre_flax.runtime import command_line
from genre_flax.runtime import platform
from genre_flax.training import train

_OUTPUT = flags.DEFINE_string(
  'output', None, 'Folder to write to.', required=True
)
_NUM_POSTERS = flags.DEFINE_integer('num_posters', 300, 'Posters to generate.')

# Each method: changes of the config, and the number of seeds.
_OWN = 'examples.research.components'
_METHODS = {
  'mixer': ({}, 3),
  'year': ({'model.name': f'{_OWN}:YearMixer'}, 1),
  'soft_f1': ({'loss.name': f'{_OWN}:soft_f1'}, 1),
  'cutmix': ({'objective.name': f'{_OWN}:CutMix'}, 1),
  'lion': (
    {
      'optimizer.name': 'optax:lion',
      'optimizer.learning_rate': 1e-3,
      'optimizer.schedule': f'{_OWN}:inverse_square_root',
      'optimizer.weight_decay': 0.0,
    },
    1,
  ),
}


def prepare(folder: pathlib.Path, *, num_posters: int) -> pathlib.Path:
  """Generates posters with years and prepares them; returns the dataset."""
  csv, images = synthetic.write_posters(folder, num_posters=num_posters)
  table = pd.read_csv(csv)
  # Westerns and film noirs are old, science fiction is new.
  table['year'] = 1990 + table.index % 20 + 15 * table['Sci-Fi']
  table['year'] -= 25 * table['Western']
  table.to_csv(csv, index=False)
  data_dir = folder / 'dataset'
  given = columns.Columns(extra=('year',))
  build.build(
    sources.Source(csv, images, columns=given),
    data_dir=data_dir,
    shares={'train': 60, 'validation': 20, 'test': 20},
    overwrite=True,
  )
  return data_dir


def make_config(data_dir: pathlib.Path) -> config_dict.ConfigDict:
  """The config of all methods."""
  config = default.get_config()
  config.dataset.data_dir = str(data_dir)
  config.dataset.cache = 'memory'
  config.image_height, config.image_width = 96, 64
  config.model.name = f'{_OWN}:Mixer'
  config.model.options.num_blocks = 1
  config.batch_size = 32
  config.num_epochs = 6.0
  config.eval_every_epochs = 6.0
  config.optimizer.learning_rate = 3e-3
  config.bootstrap_samples = 0
  config.report = False
  config.tensorboard = False
  return config


def run(
  config: config_dict.ConfigDict, workdir: pathlib.Path, changes: dict
) -> str:
  """Trains and evaluates a changed config; returns the workdir."""
  config = config.copy_and_resolve_references()
  with config.unlocked():
    config.update_from_flattened_dict(changes)
  outcome = train.train(config, workdir)
  logging.info('%s: %s', workdir.name, outcome.metrics)
  split_report.evaluate_best(config, workdir)
  return str(workdir)


def main(argv: list[str]) -> None:
  del argv
  platform.configure()
  output = pathlib.Path(_OUTPUT.value)
  config = make_config(
    prepare(output / 'posters', num_posters=_NUM_POSTERS.value)
  )
  groups = {
    name: [
      run(config, output / f'{name}_s{seed}', {**changes, 'seed': seed})
      for seed in range(num_seeds)
    ]
    for name, (changes, num_seeds) in _METHODS.items()
  }
  names = ['mean_average_precision', 'mean_roc_auc', 'recall_at_3']
  compared = comparison.compare(groups, names=names, num_samples=200)
  table = run_tables.format_comparison(compared, 'latex')
  (output / 'methods.tex').write_text(table)
  print(table)
  folds = {
    f'fold {fold}': [
      run(config, output / f'fold_{fold[0]}', {'dataset.fold': fold})
    ]
    for fold in ('1/3', '2/3', '3/3')
  }
  compared = comparison.compare(folds, names=names, num_samples=200)
  print(run_tables.format_comparison(compared, 'text'))


if __name__ == '__main__':
  command_line.run(main)
