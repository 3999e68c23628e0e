"""Tests of sweep files and their search spaces."""

import ast
import contextlib
import pathlib

import optuna
import pytest

from configs.sweeps import backbone_by_image_size
from configs.sweeps import default
from configs.sweeps import image_size
from configs.sweeps import image_size_by_learning_rate
from configs.sweeps import learning_rate
from genre_flax import config_validation
from genre_flax.runtime import errors
from launch.sweeps import sweep_file
from tests.support import paths

FILES = (
  backbone_by_image_size,
  image_size,
  image_size_by_learning_rate,
  learning_rate,
)


def sweep_config(*space, **changes):
  config = default.get_config()
  config.space = space or ({'key': 'image_size', 'values': (96, 128)},)
  config.update_from_flattened_dict(changes)
  return config


def ask_all(sweep):
  """The flags of all trials, without those that all of them have."""
  study = optuna.create_study(sampler=optuna.samplers.RandomSampler(0))
  if sweep.config['sampler'] == 'grid':
    for point in sweep_file.grid(sweep.space):
      study.enqueue_trial(point)
  return [
    sweep.suggest(study.ask())[len(sweep.flags) :]
    for _ in range(sweep.num_trials)
  ]


def overrides(flags):
  return dict(flag.removeprefix('--config.').split('=', 1) for flag in flags)


@pytest.mark.parametrize(
  ('file', 'num_trials'), [*zip(FILES, (9, 5, 8, 20), strict=True)]
)
def test_trials_of_the_files_are_valid(file, num_trials):
  sweep = sweep_file.read(file.get_config())
  trials = ask_all(sweep)
  assert len(trials) == num_trials
  for flags in trials:
    config = load(sweep.config['base'])
    for key, text in overrides(flags).items():
      with contextlib.suppress(ValueError, SyntaxError):
        text = ast.literal_eval(text)
      config.update_from_flattened_dict({key: text})
    config.dataset.data_dir = 'data'
    config_validation.validate(config)


def load(path):
  scope = {'__name__': 'config'}
  exec((paths.ROOT / path).read_text(), scope)
  return scope['get_config']()


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
  adamw = ['--config.optimizer.name=adamw']
  sgd = '--config.optimizer.name=sgd'
  assert ask_all(sweep_file.read(config)) == [
    [f'--config.image_size={size}', *rest]
    for size in (96, 128)
    for rest in (
      adamw,
      [sgd, '--config.optimizer.beta1=0.5'],
      [sgd, '--config.optimizer.beta1=0.9'],
    )
  ]


@pytest.mark.parametrize('number, expected', [(1, 1), (2, 2), (5, 2)])
def test_a_grid_has_at_most_its_combinations(number, expected):
  config = sweep_config(num_trials=number)
  assert sweep_file.read(config).num_trials == expected


def test_tuples_and_keys_that_change_along():
  config = sweep_config(
    {'key': 'model.tiny.features', 'values': ((4, 8), (8, 16))},
    {
      'key': 'image_height',
      'values': (96,),
      'along': {'image_width': (64,)},
    },
  )
  assert ask_all(sweep_file.read(config)) == [
    [
      f'--config.model.tiny.features={features}',
      '--config.image_height=96',
      '--config.image_width=64',
    ]
    for features in ('(4, 8)', '(8, 16)')
  ]


def test_a_range_of_integers_gives_integers():
  config = sweep_config(
    {'key': 'image_size', 'low': 64, 'high': 66},
    sampler='random',
    num_trials=30,
  )
  values = {flag for [flag] in ask_all(sweep_file.read(config))}
  assert values == {f'--config.image_size={n}' for n in (64, 65, 66)}


def test_flags_of_all_trainings():
  config = sweep_config(flags=('--config.num_epochs=2',))
  assert sweep_file.read(config, ['--config.tensorboard=False']).flags == [
    '--config=configs/poster_cnn.py',
    '--config.dataset.test_split=',
    '--config.num_epochs=2',
    '--config.tensorboard=False',
  ]


def test_configs_are_found_in_the_installed_package(tmp_path, monkeypatch):
  monkeypatch.chdir(tmp_path)
  [_, sizes] = ask_all(sweep_file.read(sweep_config()))
  assert sizes == ['--config.image_size=128']
  path = pathlib.Path(sweep_file.resolve('configs/vit_probe.py:argument'))
  assert path.is_absolute()
  assert path.name == 'vit_probe.py:argument'
  (tmp_path / 'configs').mkdir()
  (tmp_path / 'configs/own.py').touch()
  assert sweep_file.resolve('configs/own.py') == 'configs/own.py'


@pytest.mark.parametrize(
  ('space', 'changes', 'words'),
  [
    ([{'key': 'image_sise', 'values': (1,)}], {}, "no key 'image_sise'"),
    ([{'values': (1,)}], {}, "must have 'key'"),
    ([{'key': 'seed', 'value': 1}], {}, 'only keys of'),
    ([{'key': 'seed'}], {}, "seed needs either 'values', or 'low' below"),
    ([{'key': 'seed', 'low': 2, 'high': 1}], {}, "'low' below 'high'"),
    (
      [{'key': 'seed', 'values': (1,), 'low': 1, 'high': 2}],
      {},
      "needs either 'values', or 'low'",
    ),
    (
      [{'key': 'seed', 'low': 0, 'high': 2, 'log': True}],
      {'sampler': 'random', 'num_trials': 2},
      "above 0 with 'log'",
    ),
    (
      [{'key': 'seed', 'values': (1,)}, {'key': 'seed', 'values': (2,)}],
      {},
      'seed appears twice',
    ),
    (
      [{'key': 'seed', 'values': (1,), 'when': {'model.name': 'tiny'}}],
      {},
      "model.name, in 'when' of seed, must precede it",
    ),
    ([{'key': 'seed', 'low': 1, 'high': 2}], {}, "needs 'values' of ['seed']"),
    (
      [{'key': 'image_height', 'values': (1,), 'along': {'image_width': 1}}],
      {},
      'image_height needs 1 values of image_width; got 1',
    ),
    (
      [{'key': 'seed', 'values': (1,), 'along': {'sead': (1,)}}],
      {},
      "no key 'sead'",
    ),
    ([], {'sampler': 'annealing'}, "config.sampler='annealing': must be one"),
    ([], {'pruner.name': 'median'}, "config.pruner.name='median'"),
    ([], {'objective.direction': 'up'}, "config.objective.direction='up'"),
    ([], {'seeds': ()}, 'at least one seed'),
    ([], {'sampler': 'tpe'}, 'config.num_trials=None'),
    ([], {'base': 'configs/none.py'}, "'configs/none.py' cannot be read"),
    ([], {'pruner.reduction_factor': 1}, 'reduction_factor=1 at least 2'),
    ([], {'flags': ('--config.batchsize=3',)}, "no key 'batchsize'"),
  ],
)
def test_faults_are_listed(space, changes, words):
  with pytest.raises(errors.InputError) as error:
    sweep_file.read(sweep_config(*space, **changes))
  assert words in str(error.value)


def test_an_empty_space_is_refused():
  with pytest.raises(errors.InputError, match='config.space: no keys'):
    sweep_file.read(default.get_config())
