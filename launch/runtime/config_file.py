"""Loads a config file as the binaries do, to look at its values."""

import importlib.util
import pathlib

import ml_collections

from genre_flax import config as config_lib


def load(path: str) -> ml_collections.ConfigDict:
  """The config that a file gives.

  Args:
    path: of the file, or of config.json in a workdir; the part after a colon
      is the argument of its get_config.

  Raises:
    OSError: there is no such file.
    Exception: of any kind, since the file is a program.
  """
  if path.endswith('.json'):
    return config_lib.load(path)
  path, *argument = path.split(':', 1)
  if not pathlib.Path(path).is_file():
    raise FileNotFoundError(f'there is no file {path}')
  spec = importlib.util.spec_from_file_location('config_file', path)
  module = importlib.util.module_from_spec(spec)
  spec.loader.exec_module(module)
  return module.get_config(*argument)
