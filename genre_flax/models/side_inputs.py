"""Extra columns of a dataset, such as a year, as inputs of a network."""

from collections.abc import Mapping, Sequence
import inspect
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from genre_flax.datasets.posters import extra_columns


def extra_inputs(
  model: nn.Module, batch: Mapping[str, Any], method: str = '__call__'
) -> dict[str, Any]:
  """The extra columns of a batch that a method of a network has as parameters.

  Args:
    model: a network of `registry.create_model`.
    batch: of `input_pipeline`; its other entries are never passed by name.
    method: of the network.
  """
  _, *names = inspect.signature(getattr(model, method)).parameters
  allowed = set(names).difference(extra_columns.RESERVED)
  return {name: value for name, value in batch.items() if name in allowed}


def with_defaults(
  model: nn.Module, columns: Sequence[extra_columns.ExtraColumn]
) -> Any:
  """The network as one of images alone: extra inputs have their defaults."""
  return _WithDefaults(model, columns) if columns else model


class _WithDefaults:
  """Has the attributes and methods of a network."""

  def __init__(
    self, model: nn.Module, columns: Sequence[extra_columns.ExtraColumn]
  ):
    """Wraps a network, for a dataset with some extra columns."""
    self._model = model
    self._columns = columns

  def __getattr__(self, name: str) -> Any:
    return getattr(self._model, name)

  def _defaults(self, images, method='__call__'):
    batch = {
      column.name: jnp.full(len(images), column.default, column.dtype)
      for column in self._columns
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
