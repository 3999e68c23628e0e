"""Code of one's own in place of the built-in: names such as 'my_nets:WideNet'.

A network, a loss or an optimiser in the config may be the name of a module and
an attribute in it. The module is found as Python finds any: in the folder that
the program is started in, or installed. Loading it runs it, so a name that came
with somebody else's workdir is refused unless the user says otherwise.
"""

from collections.abc import Callable, Mapping
import importlib
import sys
from typing import Any

from genre_flax.runtime import errors


def is_custom(name: Any) -> bool:
  """Whether a name is of one's own code, and not built in."""
  return isinstance(name, str) and ':' in name


def call(
  name: str, *, key: str, options: Mapping[str, Any], **arguments: Any
) -> Any:
  """Calls what a name stands for.

  Args:
    name: 'module:attribute'.
    key: of the config that holds the name, for messages.
    options: keyword arguments that the user chose.
    **arguments: keyword arguments that it always gets.

  Returns:
    What it returns.

  Raises:
    InputError: it is not there, or does not take these arguments.
  """
  function = load(name, key=key)
  try:
    return function(**arguments, **options)
  except TypeError as e:
    raise errors.InputError(
      f'config.{key}={name!r} cannot be called with the arguments'
      f' {sorted(arguments)} and the options {dict(options)}: {e}'
    ) from e


def load(name: str, *, key: str) -> Callable[..., Any]:
  """What a name stands for.

  Args:
    name: 'module:attribute'.
    key: of the config that holds the name, for messages.

  Raises:
    InputError: there is no such module or attribute, or it cannot be called.
  """
  module_name, _, attribute = name.partition(':')
  try:
    module = importlib.import_module(module_name)
  except ImportError as e:
    raise errors.InputError(
      f'config.{key}={name!r}: the module {module_name!r} cannot be imported:'
      f' {e}. It is looked for in {sys.path[0] or "this folder"} and among the'
      ' installed packages.'
    ) from e
  except ValueError as e:
    raise errors.InputError(
      f'config.{key}={name!r} is no name of the form module:attribute: {e}'
    ) from e
  value = module
  for part in attribute.split('.'):
    if not hasattr(value, part):
      raise errors.InputError(
        f'config.{key}={name!r}: {module_name} has no attribute'
        f' {attribute!r}; it has'
        f' {", ".join(n for n in dir(module) if not n.startswith("_"))}.'
      )
    value = getattr(value, part)
  if not callable(value):
    raise errors.InputError(
      f'config.{key}={name!r} is {type(value).__name__!r} and cannot be called;'
      ' expected a class or a function.'
    )
  return value
