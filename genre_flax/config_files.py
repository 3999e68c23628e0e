"""The flag --config: a Python file or the config.json of a run, and overrides.

A fault names the file and the line; all unknown keys are listed at once.
"""

import json
import os
import pathlib
import re
import runpy
import sys
import traceback

from absl import flags
from etils import epath
import ml_collections
from ml_collections import config_dict
from ml_collections import config_flags

import configs
from genre_flax import config as config_lib
from genre_flax.runtime import command_line
from genre_flax.runtime import custom
from genre_flax.runtime import errors
from genre_flax.runtime import files
from genre_flax.runtime import shared_flags

_OVERRIDE = re.compile(r'--?(?:no)?config\.([\w.]+)(?:=|$)')
_ALLOWED = re.compile('--?allow_custom_code(=true|=True|=1)?')

# The flag belongs to the programs, and appears in their --help.
flags.disclaim_key_flags()


def define_flag(
  flag_values: flags.FlagValues = flags.FLAGS,
) -> flags.FlagHolder[ml_collections.ConfigDict]:
  """Defines --config, its overrides, and --allow_custom_code."""
  holder = config_flags.DEFINE_config_file(
    'config',
    None,
    'File of the training configuration, or config.json of a workdir.',
    flag_values,
  )
  shared_flags.allow_custom_code(flag_values)
  flag_values['config'].parser.parse = _parse
  return holder


def find(path: str) -> str:
  """The path of a config: here, else in the installed package `configs`.

  Raises:
    InputError: there is no such file; the message lists the places.
  """
  if files.is_remote(path):
    return path
  root = pathlib.Path(next(iter(configs.__path__))).parent
  file, colon, argument = _split(path)
  places = (pathlib.Path(os.path.expanduser(file)), root / file)
  for place in places:
    if place.is_file():
      return f'{place}{colon}{argument}'
  listed = ' or '.join(dict.fromkeys(str(p.absolute()) for p in places))
  raise errors.InputError(
    f'--config={path}: there is no file {listed}; expected a file such as'
    ' configs/quickstart.py, or the config.json of a workdir.'
  )


def _split(path: str) -> tuple[str, str, str]:
  """The file, a colon and the argument of `get_config`, if any."""
  return (path, '', '') if path.endswith('.json') else path.partition(':')


def read(path: str) -> ml_collections.ConfigDict:
  """Reads a config.json, or calls `get_config` of a Python file.

  Args:
    path: for `find`; an argument of `get_config` may follow a colon.

  Raises:
    InputError: it fails; the message has the file and the line.
  """
  path = find(path)
  file, _, argument = _split(path)
  try:
    if path.endswith('.json'):
      values = json.loads(epath.Path(path).read_text())
      return config_lib.from_dict(values, strict=True)
    get_config = runpy.run_path(file).get('get_config')
    config = get_config and get_config(*filter(None, [argument]))
    if not isinstance(config, ml_collections.ConfigDict):
      raise TypeError(
        f'get_config is missing or returns {config!r:.60}; expected an'
        ' ml_collections.ConfigDict, as by `return config`'
      )
  except Exception as e:  # Of the content of the file.
    frames = traceback.extract_tb(e.__traceback__)
    lines = [frame.lineno for frame in frames if frame.filename == file]
    if isinstance(e, SyntaxError) and e.filename == file:
      lines.append(e.lineno)
    place = f'{path}, line {lines[-1]}' if lines else path
    raise errors.InputError(
      f'{place}: {type(e).__name__}: {command_line.explain(e)}'
    ) from e
  return config


def _parse(path: str) -> ml_collections.ConfigDict:
  """Reads a config, to which ml_collections applies the overrides."""
  config = read(path)
  flat = config_lib.flatten(config.to_dict())
  overrides = [m[1] for m in map(_OVERRIDE.match, sys.argv) if m]
  faults = [
    f'{_line(path, key)}{fault}'
    for key, fault in config_lib.key_faults(flat).items()
  ]
  faults += config_lib.key_faults(overrides).values()
  if missing := config_lib.default_values().keys() - flat:
    faults.append(
      f'{len(missing)} keys are missing, such as config.{min(missing)}; change'
      ' the config of configs.default.get_config()'
    )
  if faults:
    raise errors.InputError('\n  '.join([f'Invalid config {path}:', *faults]))
  names = custom.names(flat)
  # The file may come from somebody else, and is read before the flags.
  is_allowed = any(map(_ALLOWED.fullmatch, sys.argv))
  if names and path.endswith('.json') and not is_allowed:
    raise errors.InputError(
      f'{path} names custom code, which would be run: {names}. If you trust the'
      ' workdir and the installed modules, pass --allow_custom_code.'
    )
  for section, _, name in (key.rpartition('.') for key in overrides):
    if section in custom.OPTIONS.values():
      # The override is a literal of any type.
      options = config_lib.get(config, section)
      options.update({name: config_dict.placeholder(object), **options})
  return config.lock()


def _line(path: str, key: str) -> str:
  """The first line of a config file with the last part of a key, if any."""
  path = find(path)
  file = path if files.is_remote(path) else _split(path)[0]
  name = re.compile(rf'\b{re.escape(key.rpartition(".")[2])}\b')
  lines = enumerate(epath.Path(file).read_text().splitlines(), 1)
  return next((f'line {n}: ' for n, text in lines if name.search(text)), '')
