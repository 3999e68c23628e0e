"""The layers that the networks are made of; `forms` makes them fast."""

from collections.abc import Callable
from typing import Any

import flax.linen as nn
import jax
from jax import lax
import jax.numpy as jnp

from genre_flax.ops import ops

Dtype = Any
# The collections of `feature_map`.
SEEN, ADDED = 'intermediates', 'perturbations'


def feature_map(module: nn.Module, x: jax.Array) -> jax.Array:
  """Marks the last feature map of a network, for `explain` to look at.

  Where a caller asks for the collection SEEN it is put there, and what a caller
  gives in ADDED is added to it, so that it can be differentiated by. Else it
  costs nothing.

  Args:
    module: whose method is running.
    x: [B, h, w, C], after its last nonlinearity.

  Returns:
    `x`.
  """
  if module.is_initializing():
    return x  # Parameters and statistics are all that a network has.
  module.sow(SEEN, 'feature_map', x)
  return module.perturb('feature_map', x, collection=ADDED)


def channel_statistics(x: jax.Array) -> jax.Array:
  """The mean and the standard deviation of each channel of each picture.

  Args:
    x: [B, H, W, C].

  Returns:
    float32 [B, 2 C]: all means, then all deviations.
  """
  x = x.astype(jnp.float32)
  mean = x.mean(axis=(1, 2), keepdims=True)
  variance = jnp.square(x - mean).mean(axis=(1, 2))
  # Its gradient stays finite where a channel is the same everywhere.
  deviation = jnp.sqrt(variance + 1e-6)
  return jnp.concatenate([mean[:, 0, 0], deviation], axis=-1)


class ConvMaxPool(nn.Module):
  """A 'VALID' convolution with bias, then ReLU and 2 x 2 max-pooling.

  Bias and ReLU are monotonic, so they come after the pool, on a quarter of the
  pixels: the same numbers for less work.

  Attributes:
    features: output channels.
    kernel_size: side of the square kernel, in pixels.
    dtype: of the computation; parameters are float32.
  """

  features: int
  kernel_size: int = 5
  dtype: Dtype = jnp.float32

  @nn.compact
  def __call__(self, images: jax.Array) -> jax.Array:
    """Maps [B, H, W, C] to [B, (H - k + 1) // 2, (W - k + 1) // 2, F]."""
    kernel = self.param(
      'kernel',
      nn.initializers.glorot_uniform(),
      (self.kernel_size, self.kernel_size, images.shape[-1], self.features),
    )
    bias = self.param('bias', nn.initializers.zeros, (self.features,))
    images, kernel, bias = nn.dtypes.promote_dtype(
      images, kernel, bias, dtype=self.dtype
    )
    pooled = ops.conv_max_pool(images, kernel)
    return nn.relu(ops.add_bias(pooled, bias))


class Conv(nn.Module):
  """A convolution with 'SAME' padding, and without parameters of a bias.

  Attributes:
    features: output channels.
    kernel_size: side of the square kernel, in pixels.
    stride: in both directions.
    dtype: of the computation; parameters are float32.
  """

  features: int
  kernel_size: int
  stride: int = 1
  dtype: Dtype = jnp.float32

  def num_outputs(self, images: jax.Array) -> int:
    """Output channels."""
    del images
    return self.features

  @nn.compact
  def __call__(
    self,
    images: jax.Array,
    *,
    scale: jax.Array | None = None,
    shift: jax.Array | None = None,
    activation: str = '',
  ) -> jax.Array:
    """Maps [B, H, W, C] to [B, ceil(H / stride), ceil(W / stride), F].

    Args:
      images: see above.
      scale: of each output channel, [F], or None.
      shift: that is added to each, [F], or None.
      activation: with a shift: 'relu', 'relu6' or ''.
    """
    kernel = self.param(
      'kernel',
      nn.initializers.variance_scaling(2.0, 'fan_out', 'normal'),
      (self.kernel_size, self.kernel_size, images.shape[-1], self.features),
    )
    return _convolve(
      images, kernel, scale, shift, activation, self.stride, self.dtype
    )


class DepthwiseConv(nn.Module):
  """A depthwise convolution like `Conv`.

  Attributes:
    kernel_size: side of the square kernel, in pixels.
    stride: in both directions.
    dtype: of the computation; parameters are float32.
  """

  kernel_size: int
  stride: int = 1
  dtype: Dtype = jnp.float32

  def num_outputs(self, images: jax.Array) -> int:
    """Output channels."""
    return images.shape[-1]

  @nn.compact
  def __call__(
    self,
    images: jax.Array,
    *,
    scale: jax.Array | None = None,
    shift: jax.Array | None = None,
    activation: str = '',
  ) -> jax.Array:
    """Maps [B, H, W, C] to [B, ceil(H / stride), ceil(W / stride), C]."""
    kernel = self.param(
      'kernel',
      nn.initializers.variance_scaling(2.0, 'fan_out', 'normal'),
      (self.kernel_size, self.kernel_size, 1, images.shape[-1]),
    )
    return _convolve(
      images, kernel, scale, shift, activation, self.stride, self.dtype
    )


def _convolve(images, kernel, scale, shift, activation, stride, dtype):
  """By the form for the kernel; one with a shift does all in one."""
  if scale is not None:
    kernel = kernel * scale
  images, kernel, shift = nn.dtypes.promote_dtype(
    images, kernel, shift, dtype=dtype
  )
  if shift is not None:
    return ops.conv_bias(
      images,
      kernel,
      shift,
      stride=stride,
      padding='SAME',
      activation=activation,
    )
  if kernel.shape[2] != images.shape[-1]:
    return ops.depthwise_conv(images, kernel, stride=stride)
  if kernel.shape[0] == 1:
    # Not by an index: of a batch of any size JAX would look up each pixel.
    strides = (1, stride, stride, 1)
    images = lax.slice(images, (0,) * 4, images.shape, strides)
    return ops.pointwise_conv(images, kernel)
  return ops.conv(images, kernel, stride=stride, padding='SAME')


class Dense(nn.Module):
  """A dense layer of the last axis; Flax's, by the form for the platform.

  Attributes:
    features: output channels.
    dtype: of the computation; parameters are float32.
    kernel_init: of the kernel.
  """

  features: int
  dtype: Dtype = jnp.float32
  kernel_init: Callable[..., jax.Array] = nn.initializers.lecun_normal()

  @nn.compact
  def __call__(self, x: jax.Array) -> jax.Array:
    """Maps [..., C] to [..., features]."""
    kernel = self.param(
      'kernel', self.kernel_init, (x.shape[-1], self.features)
    )
    bias = self.param('bias', nn.initializers.zeros, (self.features,))
    x, kernel, bias = nn.dtypes.promote_dtype(x, kernel, bias, dtype=self.dtype)
    return ops.add_bias(ops.dense(x, kernel), bias)


class Patchify(nn.Module):
  """A convolution whose stride is its side: a dense layer of each patch.

  What is left over on the right and at the bottom is cut off.

  Attributes:
    features: output channels.
    patch: side of a patch, in pixels.
    dtype: of the computation; parameters are float32.
  """

  features: int
  patch: int
  dtype: Dtype = jnp.float32

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


class LayerNorm(nn.Module):
  """Layer normalisation (Ba et al., 2016), over the last axis.

  Attributes:
    epsilon: added to the variance.
    dtype: of the output; statistics are float32.
  """

  epsilon: float
  dtype: Dtype = jnp.float32

  @nn.compact
  def __call__(self, x: jax.Array) -> jax.Array:
    """Returns an array of the shape of `x`, [..., C]."""
    scale = self.param('scale', nn.initializers.ones, x.shape[-1:])
    bias = self.param('bias', nn.initializers.zeros, x.shape[-1:])
    x = x.astype(jnp.float32)
    x -= x.mean(axis=-1, keepdims=True)
    variance = jnp.square(x).mean(axis=-1, keepdims=True)
    x *= lax.rsqrt(variance + self.epsilon)
    return ops.channel_affine(x, scale, bias).astype(self.dtype)


class LayerScale(nn.Module):
  """A learnt scale of each channel of a branch (Touvron et al., 2021, CaiT).

  Attributes:
    initial: of all channels.
    dtype: of the computation; parameters are float32.
  """

  initial: float
  dtype: Dtype = jnp.float32

  @nn.compact
  def __call__(self, inputs: jax.Array) -> jax.Array:
    """Returns an array of the shape of `inputs`, [..., C]."""
    scale = self.param(
      'scale', nn.initializers.constant(self.initial), inputs.shape[-1:]
    )
    return inputs * scale.astype(self.dtype)
