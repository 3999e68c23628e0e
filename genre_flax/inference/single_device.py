"""A network on one device of this process, for what is not spread over all."""

from collections.abc import Callable
from typing import Any

import jax

from genre_flax.inference import predictor as predictor_lib
from genre_flax.runtime import target


class OneDevice:
  """Holds a network's variables, and runs functions of them."""

  def __init__(self, predictor: predictor_lib.Predictor):
    """Places the variables of `predictor_lib.restore`."""
    self._device = jax.local_devices()[0]
    self.variables = jax.device_put(
      jax.device_get(predictor.variables), self._device
    )

  def run(self, function: Callable[..., Any], *arguments: Any) -> Any:
    """Calls a function of the variables and of further arrays.

    Args:
      function: of the variables and `arguments`.
      *arguments: arrays of the host.

    Returns:
      What it returns, as arrays of the host.
    """
    with (
      jax.default_device(self._device),
      target.traced_for(self._device.platform),
    ):
      return jax.device_get(function(self.variables, *arguments))
