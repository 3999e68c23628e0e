"""Tests of sweep files and of the study that is made of them."""

import optuna
import pytest

from configs.sweeps import backbone_by_image_size
from configs.sweeps import cross_validation
from configs.sweeps import default
from configs.sweeps import image_size
from configs.sweeps import image_size_by_learning_rate
from configs.sweeps import learning_curve
from configs.sweeps import learning_rate
from genre_flax import config_validation
from genre_flax.runtime import errors
from launch.runtime import config_file
from launch.sweeps import search_space
from launch.sweeps import studies
from launch.sweeps import sweep_file


def sweep_config(*space, **changes):
  config = default.get_config()
  config.space = space or ({'key': 'image_size', 'values': (96, 128)},)
  config.update_from_flattened_dict(changes)
  return config


def open_study(sweep, storage=None):
  return studies.open_study(
    sweep,
    name='sweep',
    storage=storage or optuna.storages.InMemoryStorage(),
  )


def ask_all(sweep):
  """The values of all trials."""
  study, chosen = open_study(sweep), []
  for _ in range(sweep.num_trials):
    trial = study.ask()
    chosen.append(sweep.suggest(trial))
    study.tell(trial, 0.5)
  return chosen


def test_the_sweeps_that_come_along_can_be_searched():
  sizes = sweep_file.read_sweep(image_size.get_config())
  assert [c['image_size'] for c in ask_all(sizes)] == [128, 192, 250, 320, 400]
  both = sweep_file.read_sweep(image_size_by_learning_rate.get_config())
  assert both.num_trials == 8
  rates = sweep_file.read_sweep(learning_rate.get_config())
  chosen = ask_all(rates)
  assert len(chosen) == 20
  for values in chosen:
    assert 1e-4 <= values['optimizer.learning_rate'] <= 1e-2
    is_cosine = values['optimizer.schedule'] == 'cosine'
    assert ('optimizer.warmup_epochs' in values) == is_cosine
  assert len({values['optimizer.schedule'] for values in chosen}) == 2


def test_a_grid_has_every_combination_once_in_order():
  config = sweep_config(
    {'key': 'image_size', 'values': (96, 128)},
    {'key': 'optimizer.name', 'values': ('adamw', 'sgd')},
    {
      'key': 'optimizer.beta1',
      'values': (0.5, 0.9),
      'when': {'optimizer.name': 'sgd'},
    },
  )
  adam = {'optimizer.name': 'adamw'}
  sgd = {'optimizer.name': 'sgd'}
  assert ask_all(sweep_file.read_sweep(config)) == [
    {'image_size': size, **rest}
    for size in (96, 128)
    for rest in (
      adam,
      {**sgd, 'optimizer.beta1': 0.5},
      {**sgd, 'optimizer.beta1': 0.9},
    )
  ]


def test_a_grid_has_no_more_trials_than_combinations():
  for number, expected in ((1, 1), (2, 2), (5, 2)):
    assert (
      sweep_file.read_sweep(sweep_config(num_trials=number)).num_trials
      == expected
    )


def test_a_grid_that_was_queued_in_part_is_queued_whole():
  storage = optuna.storages.InMemoryStorage()
  sweep = sweep_file.read_sweep(sweep_config())
  study = optuna.create_study(study_name='sweep', storage=storage)
  study.enqueue_trial({'image_size': search_space.as_text(96)})
  study = open_study(sweep, storage)
  assert len(study.trials) == 2
  chosen = [sweep.suggest(study.ask()) for _ in range(2)]
  assert chosen == [{'image_size': 96}, {'image_size': 128}]


def test_keys_change_along_with_another():
  config = sweep_config(
    {
      'key': 'image_height',
      'values': (96, 128),
      'along': {'image_width': (64, 80)},
    },
    {'key': 'model.tiny.features', 'values': ((4, 8), (8, 16))},
  )
  assert ask_all(sweep_file.read_sweep(config)) == [
    {
      'image_height': height,
      'image_width': width,
      'model.tiny.features': features,
    }
    for height, width in ((96, 64), (128, 80))
    for features in ((4, 8), (8, 16))
  ]


def test_a_backbone_brings_its_network_and_a_height_its_width():
  sweep = sweep_file.read_sweep(backbone_by_image_size.get_config())
  chosen = ask_all(sweep)
  assert len(chosen) == 9
  assert {
    (c['pretrained'].partition('_')[0], c['model.name']) for c in chosen
  } == {
    ('timm:vit', 'vit'),
    ('timm:convnext', 'convnext'),
    ('efficientnet', 'efficientnet_lite'),
  }
  assert {(c['image_height'], c['image_width']) for c in chosen} == {
    (240, 160),
    (336, 224),
    (480, 320),
  }


@pytest.mark.parametrize(
  'file',
  [
    backbone_by_image_size,
    cross_validation,
    image_size,
    image_size_by_learning_rate,
    learning_curve,
    learning_rate,
  ],
  ids=lambda file: file.__name__.rpartition('.')[2],
)
def test_every_trial_of_a_sweep_that_comes_with_it_can_be_trained(file):
  sweep = sweep_file.read_sweep(file.get_config())
  for chosen in ask_all(sweep):
    config = config_file.load(sweep.base)
    config.update_from_flattened_dict(chosen)
    config.dataset.data_dir = 'data'
    config_validation.validate(config)


def test_values_become_flags():
  chosen = {
    'image_size': 96,
    'optimizer.learning_rate': 5e-4,
    'model.name': 'tiny',
    'model.tiny.features': (4, 8),
    'tensorboard': False,
  }
  assert search_space.as_flags(chosen) == [
    '--config.image_size=96',
    '--config.optimizer.learning_rate=0.0005',
    '--config.model.name=tiny',
    '--config.model.tiny.features=(4, 8)',
    '--config.tensorboard=False',
  ]


@pytest.mark.parametrize('key', ['model.tiny.features', 'model.options.sizes'])
def test_tuples_survive_the_study(key):
  config = sweep_config({'key': key, 'values': ((4, 8), (8, 16))})
  chosen = ask_all(sweep_file.read_sweep(config))
  assert chosen == [{key: (4, 8)}, {key: (8, 16)}]


def test_whole_numbers_are_drawn_from_a_range_of_whole_numbers():
  config = sweep_config(
    {'key': 'image_size', 'low': 64, 'high': 66},
    sampler='random',
    num_trials=30,
  )
  chosen = {c['image_size'] for c in ask_all(sweep_file.read_sweep(config))}
  assert chosen == {64, 65, 66}
  assert all(isinstance(size, int) for size in chosen)


@pytest.mark.parametrize(
  ('space', 'changes', 'words'),
  [
    ([{'key': 'image_sise', 'values': (1,)}], {}, "no key 'image_sise'"),
    ([{'key': 'optimizer.lr', 'values': (1,)}], {}, "no key 'optimizer.lr'"),
    ([{'values': (1,)}], {}, "has no 'key'"),
    ([{'key': 'seed', 'value': 1}], {}, "has ['value'], expected some of"),
    ([{'key': 'seed'}], {}, "seed needs 'values', or 'low' below 'high'"),
    ([{'key': 'seed', 'low': 2, 'high': 1}], {}, "'low' below 'high'"),
    ([{'key': 'seed', 'values': (1,), 'low': 1, 'high': 2}], {}, 'and a range'),
    (
      [{'key': 'seed', 'low': 0, 'high': 2, 'log': True}],
      {'sampler': 'random', 'num_trials': 2},
      'low=0 must be > 0',
    ),
    (
      [{'key': 'seed', 'values': (1,)}, {'key': 'seed', 'values': (2,)}],
      {},
      'seed stands twice',
    ),
    (
      [{'key': 'seed', 'values': (1,), 'when': {'model.name': 'tiny'}}],
      {},
      "'when' of seed names ['model.name'], which must stand before it",
    ),
    ([{'key': 'seed', 'low': 1, 'high': 2}], {}, "['seed'] are ranges"),
    (
      [
        {
          'key': 'image_height',
          'values': (1, 2),
          'along': {'image_width': (1,)},
        }
      ],
      {},
      'image_width, along with image_height, needs a tuple of 2, a value for'
      ' each of its own; got (1,)',
    ),
    (
      [
        {'key': 'image_height', 'values': (1,), 'along': {'image_width': (1,)}},
        {'key': 'image_width', 'values': (2,)},
      ],
      {},
      'image_width stands twice',
    ),
    (
      [{'key': 'seed', 'values': (1,), 'along': {'sead': (1,)}}],
      {},
      "no key 'sead'",
    ),
    ([], {'sampler': 'annealing'}, "config.sampler='annealing': must be one"),
    ([], {'pruner.name': 'median'}, "config.pruner.name='median'"),
    ([], {'objective.direction': 'up'}, "config.objective.direction='up'"),
    ([], {'seeds': ()}, 'config.seeds is empty'),
    ([], {'sampler': 'tpe'}, 'config.num_trials=None'),
    ([], {'base': 'configs/none.py'}, 'there is no file configs/none.py'),
    ([], {'pruner.reduction_factor': 1}, 'reduction_factor at least 2'),
  ],
)
def test_what_cannot_be_searched_is_named(space, changes, words):
  with pytest.raises(errors.InputError) as error:
    sweep_file.read_sweep(sweep_config(*space, **changes))
  assert words in str(error.value)


def test_a_study_goes_on_with_the_same_sweep_alone():
  storage = optuna.storages.InMemoryStorage()
  first = sweep_file.read_sweep(sweep_config())
  study = open_study(first, storage)
  study.tell(study.ask(), 0.5)
  again = open_study(sweep_file.read_sweep(sweep_config(num_trials=3)), storage)
  # The grid is not queued a second time.
  assert len(again.trials) == 2
  with pytest.raises(errors.InputError) as error:
    open_study(sweep_file.read_sweep(sweep_config(seeds=(0, 1))), storage)
  assert 'seeds: [0] there, [0, 1] now' in str(error.value)
  assert 'another --sweep_dir' in str(error.value)


def test_the_objective_knows_which_way_is_better():
  up = sweep_file.Objective('mean_average_precision', 'validation', 'maximize')
  down = sweep_file.Objective('loss', 'validation', 'minimize')
  assert up.best([0.1, 0.3, 0.2]) == 0.3
  assert down.best([0.1, 0.3, 0.2]) == 0.1
