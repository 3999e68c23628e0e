"""Tests of the files in configs/."""

import importlib
import json
import re
import sys

from absl import flags
import pytest

from configs import default
from genre_flax import config as config_lib
from genre_flax import config_files
from genre_flax import config_validation
from genre_flax.runtime import custom
from genre_flax.runtime import errors
from tests.support import paths

FILES = sorted(
  path
  for path in (paths.ROOT / 'configs').glob('*.py')
  if path.name != '__init__.py'
)
NAMES = [path.stem for path in FILES]


def load(name):
  return importlib.import_module(f'configs.{name}').get_config()


@pytest.fixture
def parse(monkeypatch):
  """A function that reads a config as the programs do."""

  def parse_command_line(path, *overrides):
    argv = ['program', f'--config={path}', *overrides]
    # ml_collections finds the overrides there.
    monkeypatch.setattr(sys, 'argv', argv)
    values = flags.FlagValues()
    config_files.define_flag(values)
    values(argv)
    return values.config

  return parse_command_line


@pytest.mark.parametrize('name', NAMES)
def test_config_is_valid_and_has_the_keys_of_the_default(name):
  config = load(name)
  expected = config_lib.flatten(config_lib.to_dict(default.get_config()))
  assert config_lib.flatten(config_lib.to_dict(config)).keys() == (
    expected.keys()
  )
  if not config.dataset.synthetic_posters:
    config.dataset.data_dir = 'data'
  if name == 'finetune_text':
    with pytest.raises(errors.InputError, match='init_from'):
      config_validation.validate(config)
    config.init_from = 'runs/probe_text'
  config_validation.validate(config)


def test_overrides_of_each_type(parse):
  overrides = {
    'image_size': 250,
    'optimizer.learning_rate': 3e-4,
    'model.name': 'tiny',
    'tensorboard': False,
    'model.tiny.features': (4, 8),
    'num_train_steps': 10,
    'optimizer.clip_norm': 0.5,
  }
  config = parse(
    FILES[0], *(f'--config.{key}={value}' for key, value in overrides.items())
  )
  for key, value in overrides.items():
    assert config_lib.get(config, key) == value


@pytest.mark.parametrize(
  'text, expected',
  [
    ('64', 64),
    ('1e-3', 1e-3),
    ('true', True),
    ('(1, 2)', (1, 2)),
    ('wide', 'wide'),
    ('None', None),
  ],
)
@pytest.mark.parametrize('section', custom.OPTIONS.values())
def test_options_that_the_file_does_not_list(parse, section, text, expected):
  config = parse(FILES[0], f'--config.{section}.width={text}')
  options = config_lib.get(config, section)
  assert options.to_dict() == {'width': expected}
  assert type(options.width) is type(expected)
  assert config.is_locked


def test_the_config_file_of_a_run(parse, tmp_path):
  config = load('finetune')
  config.loss.options = {'gamma': 2.0}
  path = tmp_path / 'config.json'
  path.write_text(json.dumps(config_lib.to_dict(config)))
  assert parse(path).to_dict() == config.to_dict()
  changed = parse(
    path,
    '--config.batch_size=8',
    '--config.loss.options.gamma=3.0',
    '--config.optimizer.clip_norm=0.5',
    '--config.eval_crops=(1.0,)',
  )
  assert (changed.batch_size, changed.loss.options.gamma) == (8, 3.0)
  assert (changed.optimizer.clip_norm, changed.eval_crops) == (0.5, (1.0,))


@pytest.mark.parametrize(
  'override, nearest',
  [
    ('image_sise=250', 'image_size'),
    ('model.optionz.width=64', '(?:image_width|model..*)'),
    ('optimizer.lr=1', 'optimizer.learning_rate'),
    ('dataset.batch_size=3', 'batch_size'),
    ('model=tiny', 'model.name'),
    ('augment.erasing=0.5', 'augment.random_erasing'),
  ],
)
def test_unknown_keys_are_listed_with_the_nearest(parse, override, nearest):
  with pytest.raises(flags.IllegalFlagValueError) as e:
    parse(FILES[0], f'--config.{override}', '--noconfig.tensorbord')
  key = override.partition('=')[0]
  assert re.search(rf'config\.{key}: .* config\.{nearest}\n', str(e.value))
  assert 'the nearest is config.tensorboard' in str(e.value)


@pytest.mark.parametrize('value', ['many', '1e3'])
def test_invalid_override_is_refused(parse, value):
  with pytest.raises(flags.IllegalFlagValueError):
    parse(FILES[0], f'--config.batch_size={value}')


@pytest.mark.parametrize(
  ('body', 'message'),
  [
    (
      'c.num_epoch = 3; c.my_note = 2',
      'line 5: config.my_note: .*\n.*num_epochs',
    ),
    ("c.batch_size = '8'", 'line 5: TypeError: .*batch_size'),
    ('c.batch_size = 64 // 0', 'line 5: ZeroDivisionError'),
    ('c.batch_size = = 3', 'line 5: SyntaxError'),
    ("c['modle'] = c['modle']", 'line 5: KeyError: .*modle'),
    ('return', 'missing or returns None; .*`return config`'),
    ('c = type(c)(); c.seed = 0', r'\d+ keys are missing, such as config.augm'),
  ],
)
def test_fault_in_a_config_file_names_its_line(parse, tmp_path, body, message):
  path = tmp_path / 'own.py'
  path.write_text(
    'from configs import default\n\ndef get_config():\n'
    f'  c = default.get_config()\n  {body}\n  return c\n'
  )
  with pytest.raises(flags.IllegalFlagValueError, match=message) as e:
    parse(path)
  assert f'{tmp_path}/own.py' in str(e.value)


@pytest.mark.parametrize(
  ('content', 'message'),
  [
    ('{"batch_sise": 8}', 'line 1: config.batch_sise: .* config.batch_size'),
    ('{"batch_size": "many"}', 'batch_size'),
    ('{"seed": 1,', 'line 1 column'),
  ],
)
def test_fault_in_the_config_file_of_a_run(parse, tmp_path, content, message):
  (tmp_path / 'config.json').write_text(content)
  with pytest.raises(flags.IllegalFlagValueError, match=message) as e:
    parse(tmp_path / 'config.json')
  assert f'{tmp_path}/config.json' in str(e.value)


def test_configs_are_found_in_the_installed_package(tmp_path, monkeypatch):
  monkeypatch.chdir(tmp_path)
  path = config_files.find('configs/vit_probe.py:argument')
  assert path == str(paths.ROOT / 'configs/vit_probe.py:argument')
  (tmp_path / 'configs').mkdir()
  (tmp_path / 'configs/own.py').touch()
  assert config_files.find('configs/own.py') == 'configs/own.py'
  with pytest.raises(errors.InputError) as e:
    config_files.find('configs/no.py')
  for folder in (tmp_path, paths.ROOT):
    assert str(folder / 'configs' / 'no.py') in str(e.value)


def test_every_key_is_read_by_the_code():
  # Rules do not use a key. Models have their keys as attributes.
  code = '\n'.join(
    path.read_text() for path in (paths.ROOT / 'genre_flax').rglob('*.py')
  )
  code = re.sub(r'_RULES: .*?\n}', '', code, flags=re.S)
  code = re.sub(r'_FREE_KEYS = \(.*?\n\)', '', code, flags=re.S)
  unread = [
    key
    for key in config_lib.flatten(config_lib.to_dict(default.get_config()))
    if not re.search(rf'\b{key.split(".")[-1]}\b', code)
  ]
  assert not unread


def test_model_options_are_attributes_of_the_models():
  from genre_flax.models import registry

  config = default.get_config().model
  for config.name in registry.MODELS:
    registry.create_from_config(config, num_genres=3)
