"""Keeps XLA from working out on CPU what it has worked out before.

XLA's CPU backend puts loops that it takes for cheap into each loop that uses
them, and does away with `lax.optimization_barrier` before. That is right for a
few operations an element, and wrong for sums of many arrays that many others
need: they are then read and added again for each.
"""

from collections.abc import Callable
from typing import Any

import jax
from jax.experimental import xla_metadata


def materialized(function: Callable[..., Any]) -> Callable[..., Any]:
  """A function whose results are written to memory once, for all who use them.

  It becomes a call, which XLA neither inlines nor fuses with anything.

  Args:
    function: of pytrees of arrays, to one. What in it is jitted itself and not
      inlined, such as `jnp.where`, becomes a call too, so it is better written
      with the operations of `lax`.

  Returns:
    A function of the same arguments with the same results.
  """
  call = jax.jit(function)

  def run(*arguments):
    with xla_metadata.set_xla_metadata(inlineable='false'):
      return call(*arguments)

  return run
