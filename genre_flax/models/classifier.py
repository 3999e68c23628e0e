"""Classifiers made of a backbone and a linear head."""

from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from genre_flax.models import layers
from genre_flax.models import normalization


class Classifier(nn.Module):
  """A backbone, dropout, and a head with one logit per genre.

  Attributes:
    num_genres: number of logits.
    backbone: maps normalized images [B, H, W, 3] and `train` to embeddings
      float32 [B, F]; with the attributes `mixes_examples` and `layer_order` of
      a network (see `registry`).
    dropout_rate: of the embeddings, in [0, 1).
    feature_norm: whether a BatchNorm normalizes the embeddings, for a linear
      probe (He et al., 2022, 'Masked Autoencoders', appendix A.1).
    axis_name: mapped axis over which the `feature_norm` averages.
  """

  num_genres: int
  backbone: nn.Module
  dropout_rate: float = 0.0
  feature_norm: bool = False
  dtype: Any = jnp.float32
  axis_name: str | None = None

  @property
  def mixes_examples(self) -> bool:
    """See `registry`."""
    return self.feature_norm or self.backbone.mixes_examples

  @property
  def layer_order(self) -> tuple[str, ...]:
    """See `registry`."""
    return self.backbone.layer_order

  def setup(self) -> None:
    """Creates the layers after the backbone."""
    if self.feature_norm:
      self.head_norm = normalization.BatchNorm(axis_name=self.axis_name)
    self.dropout = layers.Dropout(self.dropout_rate)
    self.head = layers.Dense(self.num_genres, dtype=self.dtype)

  def __call__(self, images: jax.Array, *, train: bool) -> jax.Array:
    """Maps normalized images [B, H, W, 3] to logits [B, num_genres]."""
    return self.classify(self.embed(images, train=train), train=train)

  def embed(self, images: jax.Array, *, train: bool) -> jax.Array:
    """Maps normalized images [B, H, W, 3] to embeddings [B, F]."""
    return self.backbone(images, train=train)

  def classify(self, embeddings: jax.Array, *, train: bool) -> jax.Array:
    """Maps embeddings [B, F] to logits [B, num_genres]."""
    if self.feature_norm:
      # BatchNorm takes [B, H, W, C].
      embeddings = self.head_norm(
        embeddings[:, None, None], use_running_average=not train
      )[:, 0, 0]
    embeddings = self.dropout(embeddings, deterministic=not train)
    return self.head(embeddings).astype(jnp.float32)


def create(
  backbone_class: type[nn.Module],
  *,
  num_genres: int,
  dropout_rate: float = 0.0,
  feature_norm: bool = False,
  dtype: Any = jnp.float32,
  axis_name: str | None = None,
  **options: Any,
) -> Classifier:
  """Creates a classifier; `options` are attributes of its backbone."""
  backbone = backbone_class(dtype=dtype, axis_name=axis_name, **options)
  return Classifier(
    num_genres, backbone, dropout_rate, feature_norm, dtype, axis_name
  )
