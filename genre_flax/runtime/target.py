"""The platform that a program is traced for.

JAX traces a function before it knows where it will run, so that what has a form
for each platform is traced in all of its forms. Where the platform is known,
its own one is enough, in half of the time.
"""

import contextlib

import jax

# The definitions alone, for platforms and libraries that nobody knows yet.
ANY = 'any'
# Of JAX's caches too: what was traced for one platform is none of another's.
_platform = jax.make_user_context(default_value=None)


def platform() -> str | None:
  """That is traced for, such as 'cpu' or `ANY`; None where it is not known."""
  return _platform.value


def traced_for(name: str) -> contextlib.AbstractContextManager[None]:
  """What is traced in the block is for this platform."""
  return _platform(name)
