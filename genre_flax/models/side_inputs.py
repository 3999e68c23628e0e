"""Inputs of a network besides images: extra columns, and text features."""

from collections.abc import Mapping, Sequence
import inspect
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from genre_flax.datasets.posters import extra_columns
from genre_flax.datasets.posters import text_features


def extra_inputs(
  model: nn.Module, batch: Mapping[str, Any], method: str = '__call__'
) -> dict[str, Any]:
  """The inputs of a batch, besides images, that a method of a network takes.

  Args:
    model: a network of `registry.create_model`.
    batch: of `input_pipeline`; its other entries are never passed by name.
    method: of the network.
  """
  networks = [model]
  if hasattr(model, 'image_network'):
    networks.append(model.image_network)  # It gets the inputs that it takes.
  allowed = {
    name
    for network in networks
    for name in inspect.signature(getattr(network, method)).parameters
  }.difference(extra_columns.RESERVED)
  return {name: value for name, value in batch.items() if name in allowed}


def with_defaults(
  model: nn.Module, inputs: Sequence[text_features.SideInput]
) -> Any:
  """The network as one of images alone: other inputs have their defaults."""
  return _WithDefaults(model, inputs) if inputs else model


class _WithDefaults:
  """Has the attributes and methods of a network."""

  def __init__(
    self, model: nn.Module, inputs: Sequence[text_features.SideInput]
  ):
    """Wraps a network whose batches have further inputs."""
    self._model = model
    self._inputs = inputs

  def __getattr__(self, name: str) -> Any:
    return getattr(self._model, name)

  def _defaults(self, images, method='__call__'):
    batch = {
      each.name: jnp.full((len(images), *each.shape), each.default, each.dtype)
      for each in self._inputs
    }
    return extra_inputs(self._model, batch, method)

  def apply(
    self,
    variables: dict[str, Any],
    images: jax.Array,
    *,
    method: str = '__call__',
    **options: Any,
  ) -> Any:
    """See `nn.Module.apply`."""
    options = self._defaults(images, method) | options
    return self._model.apply(variables, images, method=method, **options)

  def init_with_output(
    self, key: jax.Array, images: jax.Array, **options: Any
  ) -> Any:
    """See `nn.Module.init_with_output`."""
    options = self._defaults(images) | options
    return self._model.init_with_output(key, images, **options)

  def init(self, key: jax.Array, images: jax.Array, **options: Any) -> Any:
    """See `nn.Module.init`."""
    return self.init_with_output(key, images, **options)[1]
