"""Loads a config file as the binaries do, to look at its values."""

import importlib.util
import pathlib

import ml_collections


def load(path: str) -> ml_collections.ConfigDict:
  """The config that a file gives.

  Args:
    path: of the file; what follows a colon is handed to its get_config.

  Raises:
    OSError: there is no such file.
    Exception: of any kind, since the file is a program.
  """
  path, *argument = path.split(':', 1)
  if not pathlib.Path(path).is_file():
    raise FileNotFoundError(f'there is no file {path}')
  spec = importlib.util.spec_from_file_location('config_file', path)
  module = importlib.util.module_from_spec(spec)
  spec.loader.exec_module(module)
  return module.get_config(*argument)
