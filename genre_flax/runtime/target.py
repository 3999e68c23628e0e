"""The platform that a program is traced for.

JAX traces a function before it knows where it will run, so that what has a form
for each platform is traced in all of its forms. Where the platform is known,
its own one is enough, and traced sooner.
"""

import contextlib

import jax

# Reference implementations only, for export.
PORTABLE = 'portable'
# JAX's caches know of it: what was traced for one is not taken for another.
_platform = jax.make_user_context(default_value=None)


def platform() -> str | None:
  """What is traced for, such as 'cpu' or `PORTABLE`; None where it is not known."""
  return _platform.value


def traced_for(name: str) -> contextlib.AbstractContextManager[None]:
  """What is traced in the block is for this platform."""
  return _platform(name)
