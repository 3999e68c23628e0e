"""The code of a run beside the package: custom modules, network attributes.

Custom modules are those of 'module:attribute' in a config, and all imported
modules below the folder that such a module is found in, such as the current
one. Installed packages are excluded.
"""

from collections.abc import Iterator, Mapping
import dataclasses
import pathlib
import re
import sys

from absl import logging
from etils import epath
import flax.linen as nn
import ml_collections

from genre_flax import config as config_lib
from genre_flax.runtime import checksums
from genre_flax.runtime import custom
from genre_flax.runtime import files

FOLDER = 'code'
_LIBRARY_FOLDERS = frozenset({'site-packages', 'dist-packages'})
# Attributes of networks that the config, the data or Flax set.
_KNOWN_ATTRIBUTES = ('num_genres', 'dtype', 'axis_name', 'parent', 'name')


def describe(
  config: ml_collections.ConfigDict, model: nn.Module
) -> dict[str, dict[str, str]]:
  """Checksums of 'modules' by name, and attributes of the 'network'."""
  return {
    'modules': {
      name: checksums.of_file(path) for name, path in _own_modules(config)
    },
    'network': dict(_attributes(model)),
  }


def save(config: ml_collections.ConfigDict, folder: epath.Path) -> None:
  """Copies the custom modules of a config into a folder.

  Raises:
    StorageError: they cannot be written.
  """
  for name, path in _own_modules(config):
    target = folder.joinpath(*name.split('.')[:-1], path.name)
    with files.storage_errors(target):
      target.parent.mkdir(parents=True, exist_ok=True)
    files.write_atomic(target, path.read_bytes())


def warn_of_changes(
  stored: Mapping[str, Mapping[str, str]] | None,
  current: Mapping[str, Mapping[str, str]],
  *,
  workdir: epath.PathLike,
) -> None:
  """Warns if code differs from that of a checkpoint, and lists the files.

  Args:
    stored: of `describe`, with the checkpoint; None of a released model.
    current: of `describe`. Modules that only one of them has are not compared:
      evaluation imports no losses.
    workdir: of the checkpoint.
  """
  if stored is None:
    return
  now, before = current['modules'], stored['modules']
  changed = [
    str(sys.modules[name].__file__)
    for name in sorted(now.keys() & before.keys())
    if now[name] != before[name]
  ]
  now, before = current['network'], stored['network']
  changed += [
    f'network attribute {name}: {before.get(name)} in the training,'
    f' {now.get(name)} now'
    for name in sorted(now.keys() | before.keys())
    if now.get(name) != before.get(name)
  ]
  if changed:
    logging.warning(
      'Code has changed since the training in %s, and results may differ:\n  %s'
      '\nCopies of custom modules of the training are in %s.',
      workdir,
      '\n  '.join(changed),
      epath.Path(workdir) / FOLDER,
    )


def _own_modules(config) -> Iterator[tuple[str, pathlib.Path]]:
  """(name, file) of the imported custom modules."""
  values = config_lib.flatten(config.to_dict()).values()
  named = {v.partition(':')[0] for v in values if custom.is_custom(v)}
  paths = {
    name: pathlib.Path(module.__file__)
    for name, module in sorted(sys.modules.items())
    if str(getattr(module, '__file__', '')).endswith('.py')
  }
  own = {
    name: path
    for name, path in paths.items()
    if not _LIBRARY_FOLDERS.intersection(path.parts)
    and name.partition('.')[0] != 'genre_flax'
  }
  # The folders that the names are imported from, such as the current one.
  roots = {own[name].parents[name.count('.')] for name in named & own.keys()}
  for name, path in own.items():
    if any(path.is_relative_to(root) for root in roots):
      yield name, path


def _attributes(model, prefix='') -> Iterator[tuple[str, str]]:
  """(path, text of the value) of a network's attributes."""
  for field in dataclasses.fields(model):
    value = getattr(model, field.name)
    if isinstance(value, nn.Module):
      yield from _attributes(value, f'{prefix}{field.name}.')
    elif field.name not in _KNOWN_ATTRIBUTES:
      yield prefix + field.name, re.sub(r' at 0x\w+', '', repr(value))
