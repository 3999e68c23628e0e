"""Layers of the networks."""

from collections.abc import Callable
from typing import Any

import flax.linen as nn
import jax
from jax import lax
import jax.numpy as jnp

from genre_flax.ops import ops

# Flax collections of `feature_map`.
FEATURE_MAPS = 'intermediates'
PERTURBATIONS = 'perturbations'


def feature_map(module: nn.Module, x: jax.Array) -> jax.Array:
  """Marks the last feature map of a network, for Grad-CAM.

  If the collection FEATURE_MAPS is mutable, the feature map is stored there. If
  the collection PERTURBATIONS is given, its value is added to the feature map,
  for gradients with respect to it. Otherwise this has no effect and no cost.

  Args:
    module: the network, inside one of its methods.
    x: [B, h, w, C], after the last nonlinearity.

  Returns:
    `x`, with any perturbation added.
  """
  if module.is_initializing():
    return x  # Neither collection belongs to the variables of a network.
  module.sow(FEATURE_MAPS, 'feature_map', x)
  return module.perturb('feature_map', x, collection=PERTURBATIONS)


def channel_statistics(x: jax.Array) -> jax.Array:
  """Mean and standard deviation of each channel of images [B, H, W, C].

  Returns:
    float32 [B, 2 C]: all means, then all standard deviations.
  """
  x = x.astype(jnp.float32)
  mean = x.mean(axis=(1, 2), keepdims=True)
  variance = jnp.square(x - mean).mean(axis=(1, 2))
  # The gradient stays finite for a constant channel.
  deviation = jnp.sqrt(variance + 1e-6)
  return jnp.concatenate([mean[:, 0, 0], deviation], axis=-1)


def parameter(
  module: nn.Module,
  name: str,
  init_fn: Callable[..., jax.Array],
  shape: tuple[int, ...],
) -> jax.Array:
  """A parameter of a module, as `module.param`.

  `module.param` traces the initializer of an existing parameter to check its
  shape, which takes half of the time of tracing a network.
  """
  if module.has_variable('params', name):
    return module.get_variable('params', name)
  return module.param(name, init_fn, shape)


class Conv(nn.Module):
  """Convolution with 'SAME' padding and without a bias parameter.

  Attributes:
    features: output channels.
    kernel_size: side of the square kernel, in pixels.
    stride: in both directions.
    feature_group_count: 1, or the number of input channels (which `features`
      equals) for a depthwise convolution.
  """

  features: int
  kernel_size: int
  stride: int = 1
  feature_group_count: int = 1
  dtype: Any = jnp.float32

  @nn.compact
  def __call__(
    self,
    images: jax.Array,
    *,
    scale: jax.Array | None = None,
    bias: jax.Array | None = None,
    activation: str = '',
  ) -> jax.Array:
    """Applies the convolution.

    Args:
      images: [B, H, W, C].
      scale: [features], factors of the output channels, folded into the kernel.
      bias: [features], added to the output.
      activation: a key of `ops.ACTIVATIONS`, applied last.

    Returns:
      [B, ceil(H / stride), ceil(W / stride), features].
    """
    kernel = parameter(
      self,
      'kernel',
      nn.initializers.variance_scaling(2.0, 'fan_out', 'normal'),
      (
        self.kernel_size,
        self.kernel_size,
        images.shape[-1] // self.feature_group_count,
        self.features,
      ),
    )
    if scale is not None:
      kernel = kernel * scale
    images, kernel, bias = nn.dtypes.promote_dtype(
      images, kernel, bias, dtype=self.dtype
    )
    return ops.conv(
      images, kernel, bias, stride=self.stride, activation=activation
    )


class ConvMaxPool(nn.Module):
  """'VALID' convolution with bias, then ReLU and 2 x 2 max-pooling.

  Bias and ReLU are monotonic, so they are applied after the pooling, to a
  quarter of the pixels, with the same result.

  Attributes:
    features: output channels.
    kernel_size: side of the square kernel, in pixels.
  """

  features: int
  kernel_size: int = 5
  dtype: Any = jnp.float32

  @nn.compact
  def __call__(self, images: jax.Array) -> jax.Array:
    """Maps [B, H, W, C] to [B, (H - k + 1) // 2, (W - k + 1) // 2, F]."""
    kernel = parameter(
      self,
      'kernel',
      nn.initializers.glorot_uniform(),
      (self.kernel_size, self.kernel_size, images.shape[-1], self.features),
    )
    bias = parameter(self, 'bias', nn.initializers.zeros, (self.features,))
    images, kernel, bias = nn.dtypes.promote_dtype(
      images, kernel, bias, dtype=self.dtype
    )
    pooled = ops.conv_max_pool(images, kernel)
    return nn.relu(ops.add_bias(pooled, bias))


class Dense(nn.Module):
  """Dense layer over the last axis, with bias.

  Attributes:
    features: output channels.
    kernel_init: initializer of the kernel.
  """

  features: int
  dtype: Any = jnp.float32
  kernel_init: Callable[..., jax.Array] = nn.initializers.lecun_normal()

  @nn.compact
  def __call__(self, x: jax.Array) -> jax.Array:
    """Maps [..., C] to [..., features]."""
    kernel = parameter(
      self,
      'kernel',
      self.kernel_init,
      (x.shape[-1], self.features),
    )
    bias = parameter(self, 'bias', nn.initializers.zeros, (self.features,))
    x, kernel, bias = nn.dtypes.promote_dtype(x, kernel, bias, dtype=self.dtype)
    return ops.add_bias(ops.dense(x, kernel), bias)


class Patchify(nn.Module):
  """Dense layer over each patch: a convolution whose stride is its side.

  Incomplete patches at the right and at the bottom are cut off.

  Attributes:
    features: output channels.
    patch: side of a patch, in pixels.
  """

  features: int
  patch: int
  dtype: Any = jnp.float32

  @nn.compact
  def __call__(self, images: jax.Array) -> jax.Array:
    """Maps [B, H, W, C] to [B, H // patch, W // patch, features]."""
    size, (batch, height, width, channels) = self.patch, images.shape
    rows, columns = height // size, width // size
    patches = images[:, : rows * size, : columns * size].reshape(
      batch, rows, size, columns, size, channels
    )
    patches = patches.transpose(0, 1, 3, 2, 4, 5).reshape(
      batch, rows, columns, size * size * channels
    )
    return Dense(self.features, self.dtype, name='dense')(patches)


class LayerScale(nn.Module):
  """Learned scale of each channel of a residual branch.

  Touvron et al., 2021, 'Going deeper with Image Transformers', section 2.1.

  Attributes:
    initial: value of all scales at initialization.
  """

  initial: float
  dtype: Any = jnp.float32

  @nn.compact
  def __call__(self, inputs: jax.Array) -> jax.Array:
    """Returns an array of the shape of `inputs`, [..., C]."""
    scale = parameter(
      self, 'scale', nn.initializers.constant(self.initial), inputs.shape[-1:]
    )
    return inputs * scale.astype(self.dtype)


class Dropout(nn.Module):
  """Dropout (Srivastava et al., 2014) with one random byte per element.

  On CPU, random numbers take much of the time of a training step, and much of
  its memory until the backward pass. The rate is rounded to a multiple of 1/256
  below 1; kept elements are scaled by the rounded rate, so that the expectation
  is exact.

  Attributes:
    rate: fraction of elements set to 0, in [0, 1).
  """

  rate: float

  @nn.compact
  def __call__(self, inputs: jax.Array, *, deterministic: bool) -> jax.Array:
    """Returns an array of the shape and dtype of `inputs`."""
    dropped = min(round(self.rate * 256), 255)
    if deterministic or dropped == 0:
      return inputs
    # Four bytes per 32-bit word; `jax.random.bits` with dtype uint8 would use
    # two words per byte.
    num_words = -(-inputs.size // 4)
    words = jax.random.bits(self.make_rng('dropout'), (num_words,), jnp.uint32)
    random = lax.bitcast_convert_type(words, jnp.uint8).ravel()[: inputs.size]
    keep = random.reshape(inputs.shape) >= jnp.uint8(dropped)
    scale = jnp.asarray(256 / (256 - dropped), inputs.dtype)
    return jnp.where(keep, inputs * scale, jnp.zeros_like(inputs))


class StochasticDepth(nn.Module):
  """Drops whole examples of a residual branch (Huang et al., 2016).

  Attributes:
    rate: fraction of examples set to 0, in [0, 1); the others are scaled.
  """

  rate: float

  @nn.compact
  def __call__(self, inputs: jax.Array, *, deterministic: bool) -> jax.Array:
    """Returns an array of the shape and dtype of `inputs`, [B, ...]."""
    if deterministic or self.rate == 0:
      return inputs
    shape = (inputs.shape[0],) + (1,) * (inputs.ndim - 1)
    keep = jax.random.bernoulli(self.make_rng('dropout'), 1 - self.rate, shape)
    scale = jnp.asarray(1 / (1 - self.rate), inputs.dtype)
    return jnp.where(keep, inputs * scale, jnp.zeros_like(inputs))
