"""The code of a run that no config holds: own modules, network attributes.

Own modules are those named 'module:attribute' in a config, and the modules that
these import from the same folder; installed packages are not. A checkpoint has
their checksums, and WORKDIR/code/STEP a copy as of that step.
"""

import ast
from collections.abc import Iterator, Mapping
import contextlib
import dataclasses
import importlib.util
import pathlib
import sys
from typing import Any

from absl import logging
from etils import epath
import flax.linen as nn
import ml_collections

from genre_flax import config as config_lib
from genre_flax import config_validation
from genre_flax.checkpoints import checkpointer
from genre_flax.checkpoints import shapes
from genre_flax.runtime import checksums
from genre_flax.runtime import errors
from genre_flax.runtime import files

FOLDER = 'code'
_LIBRARY_FOLDERS = frozenset({'site-packages', 'dist-packages'})
# Attributes of networks that are part of the config, or of Flax.
_KNOWN_ATTRIBUTES = frozenset(
  {'num_genres', 'dtype', 'axis_name', 'parent', 'name'}
)


def identity(
  config: ml_collections.ConfigDict,
  model: nn.Module,
  items: checkpointer.Items,
) -> dict[str, Any]:
  """The metadata of a checkpoint that a resumed run is compared with.

  Returns:
    'code' of `describe`; 'structure', a checksum of the paths and shapes of the
    arrays in `items`.
  """
  return {
    'code': describe(config, model),
    'structure': checksums.of_json(shapes.of(items)),
  }


def check(
  meta: Mapping[str, Any],
  current: Mapping[str, Any],
  *,
  workdir: epath.PathLike,
) -> None:
  """Compares the meta of a checkpoint with the `identity` of a resumed run.

  Other code is a warning.

  Raises:
    InputError: the arrays have other paths or shapes.
  """
  warn_of_changes(meta.get('code'), current['code'], workdir=workdir)
  if meta.get('structure', current['structure']) != current['structure']:
    raise errors.InputError(
      f'The run in {workdir} has other parameters, or another state of the'
      ' optimizer. Resume it with its own config, code and versions of'
      f' libraries, or start a new run with --config.init_from={workdir}.'
    )


def describe(
  config: ml_collections.ConfigDict, model: nn.Module
) -> dict[str, Any]:
  """The code that a config names, as far as it is imported; for JSON.

  Returns:
    'modules': checksums of own modules, by config key and path; 'network': its
    attributes.
  """
  modules = {
    key: {
      path: checksums.of_bytes(source)
      for path, source in own_modules(name).items()
    }
    for key, name in config_validation.custom_names(config).items()
    if _module(name) in sys.modules
  }
  return {'modules': modules, 'network': _attributes(model)}


def own_modules(name: str) -> dict[str, bytes]:
  """Sources of the own modules of an imported 'module:attribute', by path.

  Paths are relative to the folder of the outermost package.
  """
  module = _module(name)
  file = getattr(sys.modules.get(module), '__file__', None)
  if file is None or _LIBRARY_FOLDERS & set(pathlib.Path(file).parts):
    return {}  # Defined interactively, or installed.
  depth = module.count('.') + (pathlib.Path(file).name == '__init__.py')
  root = pathlib.Path(file).absolute().parents[depth]
  sources, queue = {}, [module]
  while queue:
    module = queue.pop()
    if module.partition('.')[0] == 'genre_flax':
      continue
    stem = module.replace('.', '/')
    for path in (f'{stem}.py', f'{stem}/__init__.py'):
      if path not in sources and (root / path).is_file():
        sources[path] = (root / path).read_bytes()
        is_package = path.endswith('/__init__.py')
        package = module if is_package else module.rpartition('.')[0]
        queue += _imported_names(sources[path], package)
  return sources


def save(
  config: ml_collections.ConfigDict, workdir: epath.Path, *, step: int
) -> None:
  """Copies the own modules of a config into WORKDIR/code/STEP.

  Raises:
    StorageError: they cannot be written.
  """
  for name in config_validation.custom_names(config).values():
    for path, source in own_modules(name).items():
      target = workdir / FOLDER / str(step) / path
      with files.storage_errors(target):
        target.parent.mkdir(parents=True, exist_ok=True)
      files.write_atomic(target, source)


def warn_of_changes(
  stored: Mapping[str, Any] | None,
  current: Mapping[str, Any],
  *,
  workdir: epath.PathLike,
) -> None:
  """Warns if the code differs from that of a checkpoint, and lists files.

  Args:
    stored: of `describe`, with the checkpoint; None of an earlier version.
    current: of `describe`; its keys are compared.
    workdir: of the checkpoint.
  """
  if stored is None:
    return
  changed = []
  for key, now in current['modules'].items():
    before = stored['modules'].get(key, now)
    changed += [
      f'{path} (config.{key})'
      for path in sorted(before.keys() | now.keys())
      if before.get(path) != now.get(path)
    ]
  before, now = map(config_lib.flatten, (stored['network'], current['network']))
  changed += [
    f'attribute {key} of the network: {before.get(key)!r} in the training,'
    f' {now.get(key)!r} now'
    for key in sorted(before.keys() | now.keys())
    if before.get(key) != now.get(key)
  ]
  if changed:
    logging.warning(
      'The code has changed since the training in %s, so its results may'
      ' differ:\n  %s\nCopies of the own modules of the training are in %s.',
      workdir,
      '\n  '.join(changed),
      epath.Path(workdir) / FOLDER,
    )


def _module(name: str) -> str:
  return name.partition(':')[0]


def _imported_names(source: bytes, package: str) -> Iterator[str]:
  """Dotted names that a source may import, and the packages that have them."""
  for node in ast.walk(ast.parse(source)):
    names = []
    if isinstance(node, ast.Import):
      names = [alias.name for alias in node.names]
    elif isinstance(node, ast.ImportFrom):
      relative = '.' * node.level + (node.module or '')
      with contextlib.suppress(ImportError):  # A relative one that would fail.
        base = importlib.util.resolve_name(relative, package)
        names = [f'{base}.{alias.name}' for alias in node.names]
    for name in names:
      parts = name.split('.')
      yield from ('.'.join(parts[:i]) for i in range(1, len(parts) + 1))


def _attributes(value: Any) -> Any:
  """The attributes of a network as values for JSON, nested in networks."""
  if isinstance(value, nn.Module):
    names = {field.name for field in dataclasses.fields(value)}
    return {
      'class': type(value).__qualname__,
      **{
        name: _attributes(getattr(value, name))
        for name in names - _KNOWN_ATTRIBUTES
      },
    }
  if isinstance(value, Mapping):
    return {str(key): _attributes(item) for key, item in value.items()}
  if isinstance(value, list | tuple):
    return [_attributes(item) for item in value]
  if value is None or isinstance(value, bool | int | float | str):
    return value
  # Other representations may contain addresses.
  return getattr(value, '__qualname__', type(value).__qualname__)
