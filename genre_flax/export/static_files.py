"""The files that are the same in every export, in the folder templates."""

import importlib.resources
import pathlib


def copy(name: str, path: pathlib.Path) -> None:
  """Writes one of them to a path."""
  templates = importlib.resources.files(__package__) / 'templates'
  path.write_bytes((templates / name).read_bytes())
