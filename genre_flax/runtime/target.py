"""The platform that a function is traced for.

JAX traces a function before it knows the platform, so that an operation with an
implementation per platform is traced once for each. If the platform is known,
one trace is enough.
"""

import contextlib

import jax

# Reference implementations only, for export.
PORTABLE = 'portable'
# JAX's caches of traced functions depend on it.
_platform = jax.make_user_context(default_value=None)


def platform() -> str | None:
  """The platform, such as 'cpu' or `PORTABLE`; None if it is not known."""
  return _platform.value


def traced_for(name: str) -> contextlib.AbstractContextManager[None]:
  """Sets the platform for functions that are traced in the block."""
  return _platform(name)
