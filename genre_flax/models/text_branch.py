"""The text branch: logits from the words on a poster, and late fusion.

Each branch, of the image and of the text, is trained with a loss of its own.
Their logits are added with two scales that are fitted to the validation split:
a joint loss, or scales fitted to the training split, would trust the branch
that overfits more.
"""

from collections.abc import Mapping
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from genre_flax.models import layers

# The variables of the fusion, in the collection 'batch_stats'.
SCALES, BIAS = 'fusion_scales', 'fusion_bias'


class TextBranch(nn.Module):
  """An embedding bag over hashed n-grams, with one logit per genre.

  Attributes:
    num_genres: number of logits.
    num_buckets: number of ids.
    dropout_rate: of n-grams in training, in [0, 1).
  """

  num_genres: int
  num_buckets: int
  dropout_rate: float = 0.0

  @nn.compact
  def __call__(
    self, text_ids: jax.Array, text_weights: jax.Array, *, train: bool
  ) -> jax.Array:
    """Maps ids and weights [B, K] to logits, float32 [B, num_genres]."""
    shape = (self.num_buckets, self.num_genres)
    kernel = layers.parameter(self, 'kernel', nn.initializers.zeros, shape)
    bias = layers.parameter(self, 'bias', nn.initializers.zeros, shape[1:])
    text_weights = layers.Dropout(self.dropout_rate)(
      text_weights, deterministic=not train
    )
    # Ids from a file may be out of range; `clip` reads the last row.
    rows = jnp.take(kernel, text_ids, axis=0, mode='clip')
    # Weights are multiplied in float32 on every platform.
    bags = jnp.einsum(
      'bk,bkg->bg', text_weights, rows, precision=jax.lax.Precision.HIGHEST
    )
    return bags + bias


class TextNetwork(nn.Module):
  """The text branch alone; images are ignored."""

  num_genres: int
  num_buckets: int
  dropout_rate: float = 0.0
  dtype: Any = jnp.float32
  axis_name: str | None = None
  mixes_examples = False

  def setup(self) -> None:
    """Creates the branch."""
    self.head = TextBranch(self.num_genres, self.num_buckets, self.dropout_rate)

  def __call__(
    self,
    images: jax.Array,
    text_ids: jax.Array,
    text_weights: jax.Array,
    *,
    train: bool,
  ) -> jax.Array:
    """Maps ids and weights [B, K] to logits, float32 [B, num_genres]."""
    del images
    return self.head(text_ids, text_weights, train=train)


class ImageAndText(nn.Module):
  """A network of images and the text branch, with late fusion.

  Parameters of the image network keep their paths; those of the text branch
  are below 'text'. The logits are `image_scale * image + text_scale * text +
  bias`, with the scales and the bias of the collection 'batch_stats'; or those
  of the image network for posters whose text was not read.

  Attributes:
    image_network: of `registry`.
    num_genres: number of logits.
    num_buckets: of the text branch.
    dropout_rate: of the text branch.
    return_branches: whether to return the logits of both branches, as in
      training, [B, 2, num_genres].
  """

  image_network: nn.Module
  num_genres: int
  num_buckets: int
  dropout_rate: float = 0.0
  return_branches: bool = False

  @property
  def mixes_examples(self) -> bool:
    """See `registry`."""
    return self.image_network.mixes_examples

  @property
  def rng_streams(self) -> tuple[str, ...]:
    """See `registry`."""
    streams = getattr(self.image_network, 'rng_streams', ('dropout',))
    return tuple(dict.fromkeys((*streams, 'dropout')))

  @property
  def backbone(self) -> nn.Module:
    """The backbone of the image network."""
    return self.image_network.backbone

  def setup(self) -> None:
    """Creates the branch, in the scope of the image network."""
    nn.share_scope(self, self.image_network)
    self.text = TextBranch(self.num_genres, self.num_buckets, self.dropout_rate)
    self.fusion_scales = self.variable('batch_stats', SCALES, jnp.ones, (2,))
    self.fusion_bias = self.variable(
      'batch_stats', BIAS, jnp.zeros, (self.num_genres,)
    )

  def __call__(
    self,
    images: jax.Array,
    text_ids: jax.Array,
    text_weights: jax.Array,
    *,
    train: bool,
    **extra: jax.Array,
  ) -> jax.Array:
    """Maps images and text to logits.

    Args:
      images: normalized, [B, H, W, 3].
      text_ids: int32 [B, K].
      text_weights: float32 [B, K], all 0 for a poster whose text was not read.
      train: whether to return the logits of the branches.
      **extra: further inputs of the image network.

    Returns:
      float32 [B, num_genres]; in training [B, 2, num_genres], of each branch.
    """
    image = self.image_network(images, train=train, **extra)
    return self._combine(image, text_ids, text_weights, train)

  def embed(self, images: jax.Array, *, train: bool, **extra) -> jax.Array:
    """Maps normalized images [B, H, W, 3] to embeddings [B, F]."""
    return self.image_network.embed(images, train=train, **extra)

  def classify(
    self,
    embeddings: jax.Array,
    text_ids: jax.Array,
    text_weights: jax.Array,
    *,
    train: bool,
    **extra: jax.Array,
  ) -> jax.Array:
    """`__call__` of embeddings [B, F] in place of images."""
    image = self.image_network.classify(embeddings, train=train, **extra)
    return self._combine(image, text_ids, text_weights, train)

  def _combine(self, image, text_ids, text_weights, train):
    text = self.text(text_ids, text_weights, train=train)
    branches = jnp.stack([image, text], axis=1)
    if train or self.return_branches:
      return branches
    fusion = {SCALES: self.fusion_scales.value, BIAS: self.fusion_bias.value}
    return fuse(branches, fusion, has_text=has_text(text_weights))


def image_network(model: nn.Module) -> nn.Module:
  """The image network of one with a text branch, or `model` itself."""
  return model.image_network if isinstance(model, ImageAndText) else model


def has_text(text_weights: jax.Array) -> jax.Array:
  """Whether the text of each poster was read, [B], from weights [B, K]."""
  return (text_weights != 0).any(axis=-1)


def fuse(
  branches: Any, fusion: Mapping[str, Any], *, has_text: Any, xp: Any = jnp
) -> Any:
  """The logits of both branches together.

  Args:
    branches: [B, 2, L], of the image and of the text.
    fusion: of `make_fusion`.
    has_text: [B]; the logits of other posters are those of the image.
    xp: jax.numpy, or numpy for arrays of NumPy.

  Returns:
    [B, L].
  """
  scales = fusion[SCALES]
  image, text = branches[:, 0], branches[:, 1]
  both = scales[0] * image + scales[1] * text + fusion[BIAS]
  return xp.where(has_text[:, None], both, image)


def make_fusion(
  scales: Any = (1.0, 1.0), *, prior_logits: np.ndarray
) -> dict[str, np.ndarray]:
  """The variables of a late fusion, in the collection 'batch_stats'.

  The logits of each branch include those of the label prior. The bias is such
  that those of both together include them once; with scales of 1, scores are
  those of naive Bayes.

  Args:
    scales: of the branches of the image and of the text.
    prior_logits: [L], of the label prior.
  """
  scales = np.asarray(scales, np.float32)
  bias = (1 - scales.sum()) * prior_logits
  return {SCALES: scales, BIAS: bias.astype(np.float32)}
