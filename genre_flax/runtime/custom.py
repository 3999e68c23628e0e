"""Custom code, such as a network, named 'module:attribute' in a config.

The module is found like any Python module: in the folder where the program is
started, or installed. Importing it runs its code, so names from another
person's workdir need the user's permission.
"""

from collections.abc import Callable, Mapping
import difflib
import inspect
import pkgutil
from typing import Any

from genre_flax.runtime import errors

# Config keys of names that may be custom, and of the options of such a name.
OPTIONS = {
  'augment.transform': 'augment.transform_options',
  'model.name': 'model.options',
  'objective.name': 'objective.options',
  'loss.name': 'loss.options',
  'optimizer.name': 'optimizer.options',
  'optimizer.schedule': 'optimizer.schedule_options',
}


def is_custom(name: Any) -> bool:
  """Whether a name in a config is 'module:attribute' and not built in."""
  return isinstance(name, str) and ':' in name


def names(values: Mapping[str, Any]) -> dict[str, str]:
  """The custom names of a flat config, by key."""
  return {key: values[key] for key in OPTIONS if is_custom(values.get(key))}


def load(name: str, *, key: str) -> Callable[..., Any]:
  """Imports a class or function.

  Raises:
    InputError: It cannot be imported, or is not a class or a function.
  """
  given = (
    f'{key}={name!r}' if key.startswith('--') else f'config.{key}={name!r}'
  )
  try:
    function = pkgutil.resolve_name(name)
  except (AttributeError, ImportError, ValueError) as e:
    raise errors.InputError(
      f'{given} cannot be imported: {e}. Expected'
      ' module:attribute, with the module in the current folder or installed.'
    ) from e
  if not callable(function):
    raise errors.InputError(
      f'{given} is of type {type(function).__name__}; expected a'
      ' class or a function.'
    )
  return function


def call(
  name: str, *, key: str, options: Mapping[str, Any], **arguments: Any
) -> Any:
  """Imports a class or function, and returns the result of calling it.

  Raises:
    InputError: It cannot be imported, or does not accept the arguments.
  """
  function = load(name, key=key)
  accepted = inspect.signature(function).parameters
  is_open = any(p.kind is p.VAR_KEYWORD for p in accepted.values())
  unknown = [option for option in options if option not in accepted]
  if unknown and not is_open:
    known = [option for option in accepted if option not in arguments]
    faults = [f'{name!r} has the parameters {known}, and not']
    for option in unknown:
      near = difflib.get_close_matches(option, known, n=1)
      hint = f'; did you mean {near[0]!r}?' if near else ''
      faults.append(f'config.{OPTIONS[key]}.{option}{hint}')
    raise errors.InputError('\n  '.join(faults))
  try:
    return function(**arguments, **options)
  except TypeError as e:
    raise errors.InputError(
      f'config.{key}={name!r} cannot be called with the arguments'
      f' {sorted(arguments)} and the options {dict(options)}: {e}'
    ) from e
