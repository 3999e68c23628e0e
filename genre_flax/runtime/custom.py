"""Custom networks, losses and optimizers, named 'module:attribute' in a config.

The module is found like any Python module: in the folder where the program is
started, or installed. Importing it runs its code, so names from another
person's workdir need the user's permission.
"""

from collections.abc import Mapping
import pkgutil
from typing import Any

from genre_flax.runtime import errors


def is_custom(name: Any) -> bool:
  """Whether a name in a config is 'module:attribute' and not built in."""
  return isinstance(name, str) and ':' in name


def call(
  name: str, *, key: str, options: Mapping[str, Any], **arguments: Any
) -> Any:
  """Imports a class or function, and returns the result of calling it.

  Args:
    name: 'module:attribute'.
    key: Config key of the name, for error messages.
    options: Keyword arguments from the config.
    **arguments: Keyword arguments from this program.

  Raises:
    InputError: It cannot be imported, or does not accept the arguments.
  """
  try:
    function = pkgutil.resolve_name(name)
  except (AttributeError, ImportError, ValueError) as e:
    raise errors.InputError(
      f'config.{key}={name!r} cannot be imported: {e}. Expected'
      ' module:attribute, with the module in the current folder or installed.'
    ) from e
  if not callable(function):
    raise errors.InputError(
      f'config.{key}={name!r} is of type {type(function).__name__}; expected a'
      ' class or a function.'
    )
  try:
    return function(**arguments, **options)
  except TypeError as e:
    raise errors.InputError(
      f'config.{key}={name!r} cannot be called with the arguments'
      f' {sorted(arguments)} and the options {dict(options)}: {e}'
    ) from e
