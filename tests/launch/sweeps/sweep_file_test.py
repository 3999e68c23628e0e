"""Tests of sweep files, their search spaces and the checks of their trials."""

import optuna
import pytest

from configs.sweeps import default
from genre_flax.runtime import errors
from launch import check
from launch.sweeps import sweep_file
from tests.support import paths

pytestmark = pytest.mark.filterwarnings(
  'ignore::optuna.exceptions.ExperimentalWarning'
)
FILES = sorted((paths.ROOT / 'configs/sweeps').glob('[a-ce-z]*.py'))
SIZES = "GRID = {'image_size': (96, 128)}"
RATES = """
def suggest(trial):
  rate = trial.suggest_float('rate', 1e-4, 1e-1, log=True)
  return {'optimizer.learning_rate': rate}
"""


def read(folder, space=SIZES, *, extra_flags=(), **changes):
  # A name per space, since Python caches compiled files by time and size.
  path = folder / f'space_{abs(hash(space))}.py'
  path.write_text(space)
  config = default.get_config()
  config.update_from_flattened_dict(changes)
  return sweep_file.read(str(path), config, extra_flags)


def overrides(sweep):
  return [flags[len(sweep.flags) :] for flags in sweep.proposals()]


@pytest.mark.parametrize('path', FILES, ids=lambda path: path.stem)
def test_trials_of_the_files_are_valid(path):
  scope = {'__name__': 'config'}
  exec(path.read_text(), scope)
  sweep = sweep_file.read(
    str(path),
    scope['get_config'](),
    ['--config.dataset.synthetic_posters=5600'],
  )
  assert len(sweep.proposals()) == sweep.num_trials > 1
  check.check_trials(sweep.proposals(), sweep_dir='sweep')


def test_a_grid_has_every_combination_once_in_order(tmp_path):
  space = """
GRID = {
  'model.tiny.features': ((4, 8), (8, 16)),
  ('image_height', 'image_width'): ((96, 64), (192, 128)),
}
"""
  sweep = read(tmp_path, space)
  assert overrides(sweep) == [
    [
      f'--config.model.tiny.features={features}',
      f'--config.image_height={height}',
      f'--config.image_width={width}',
    ]
    for features in ('(4, 8)', '(8, 16)')
    for height, width in ((96, 64), (192, 128))
  ]


@pytest.mark.parametrize('number, expected', [(1, 1), (2, 2), (5, 2)])
def test_a_grid_has_at_most_its_combinations(tmp_path, number, expected):
  assert read(tmp_path, num_trials=number).num_trials == expected


def test_keys_may_depend_on_earlier_ones(tmp_path):
  space = """
def suggest(trial):
  name = trial.suggest_categorical('name', ['adamw', 'sgd'])
  overrides = {'optimizer.name': name}
  if name == 'sgd':
    overrides['image_size'] = trial.suggest_int('size', 64, 66)
  return overrides
"""
  found = overrides(read(tmp_path, space, sampler='random', num_trials=40))
  sgd = '--config.optimizer.name=sgd'
  assert {tuple(flags) for flags in found} == {
    ('--config.optimizer.name=adamw',),
    *((sgd, f'--config.image_size={size}') for size in (64, 65, 66)),
  }


def test_proposals_are_those_of_the_study(tmp_path):
  sweep = read(tmp_path, RATES, sampler='random', num_trials=5)
  found = overrides(sweep)
  assert found == overrides(sweep)
  assert len({flag for [flag] in found}) == 5
  rates = [float(flag.partition('=')[2]) for [flag] in found]
  assert all(1e-4 <= rate <= 1e-1 for rate in rates)


def test_values_of_a_grid_are_sampled_too(tmp_path):
  sweep = read(tmp_path, sampler='tpe', num_trials=10)
  assert len(overrides(sweep)) == 10
  trial = optuna.trial.FixedTrial({'image_size': '96'})
  assert sweep.trial_flags(trial)[-1] == '--config.image_size=96'


def test_flags_of_all_trainings(tmp_path):
  sweep = read(
    tmp_path,
    extra_flags=['--config.tensorboard=False'],
    flags=('--config.num_epochs=2',),
  )
  assert sweep.flags == [
    '--config=configs/poster_cnn.py',
    '--config.dataset.test_split=',
    '--config.num_epochs=2',
    '--config.tensorboard=False',
  ]


@pytest.mark.parametrize(
  ('space', 'changes', 'words'),
  [
    ('', {}, 'either GRID or a function suggest'),
    (SIZES + RATES, {}, 'either GRID or a function suggest'),
    (RATES, {}, "GRID for config.sampler='grid'"),
    ("GRID = {'seed': 1}", {}, "GRID['seed']=1: expected values"),
    ("GRID = {'seed': ()}", {}, "GRID['seed']=(): expected values"),
    ("GRID = {('seed', 'a'): ((1,),)}", {}, "GRID[('seed', 'a')]=((1,),)"),
    (SIZES, {'num_trial': 2}, 'the nearest is config.num_trials'),
    (SIZES, {'sampler': 'annealing'}, "config.sampler of ('grid'"),
    (SIZES, {'pruner.name': 'median'}, "config.pruner.name of ['none'"),
    (SIZES, {'objective.direction': 'up'}, "got ['up']"),
    (SIZES, {'seeds': ()}, 'at least one seed'),
    (SIZES, {'sampler': 'tpe'}, 'config.num_trials of at least 1'),
    (
      SIZES,
      {'pruner.name': 'asha', 'pruner.reduction_factor': 1},
      'reduction_factor',
    ),
  ],
)
def test_invalid_sweeps_are_refused(tmp_path, space, changes, words):
  with pytest.raises(errors.InputError) as error:
    read(tmp_path, space, **changes)
  assert words in str(error.value)


def test_a_function_that_fails_is_reported(tmp_path):
  space = 'def suggest(trial):\n  return {}[1]\n'
  with pytest.raises(errors.InputError, match=r'Invalid sweep .*KeyError\(1\)'):
    read(tmp_path, space, sampler='random', num_trials=1)


DATA = '--config.dataset.data_dir={}'


@pytest.mark.parametrize(
  ('grid', 'flags', 'words'),
  [
    ({'image_sise': (1,)}, [], 'image_sise'),
    ({'image_size': (96, -1)}, [], 'config.image_size=-1: must be'),
    ({'image_size': (96, 'large')}, [], 'image_size=large'),
    ({'seed': (1, 2)}, ['--config.batchsize=3'], 'batchsize'),
    ({'seed': (1, 2)}, ['--stall=3'], "Unknown command line flag 'stall'"),
    (
      {'dataset.data_dir': ('{data}', '/none')},
      [],
      '--config.dataset.data_dir=/none does not exist',
    ),
    ({'init_from': ('', '/none')}, [], '--config.init_from=/none does not'),
  ],
)
def test_trials_are_checked_before_the_first(
  tmp_path, data_dir, grid, flags, words
):
  space = f'GRID = {grid!r}'.replace('{data}', str(data_dir))
  data = [DATA.format(data_dir), '--config.batch_size=16']
  sweep = read(tmp_path, space, extra_flags=[*data, *flags])
  with pytest.raises(errors.InputError) as error:
    check.check_trials(sweep.proposals(), sweep_dir=str(tmp_path))
  assert words in str(error.value)


def test_a_folder_without_a_dataset_is_refused(tmp_path):
  sweep = read(tmp_path, extra_flags=[DATA.format(tmp_path)])
  with pytest.raises(errors.InputError, match='no prepared dataset'):
    check.check_trials(sweep.proposals(), sweep_dir=str(tmp_path))
