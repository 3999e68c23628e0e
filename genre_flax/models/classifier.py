"""What the networks share that give features, and classify them."""

import flax.linen as nn
import jax
import jax.numpy as jnp

from genre_flax.models import batch_norm
from genre_flax.models import dropout
from genre_flax.models import layers


class Classifier(nn.Module):
  """A backbone, dropout, and a head of one logit a genre.

  A network of this kind has the attributes `num_genres`, `dropout_rate`,
  `feature_norm`, `axis_name` and `dtype`, and makes its `backbone`, of images
  and `train`, before this `setup`. With `feature_norm` a BatchNorm that is
  never frozen normalises the features before the logits, for a head on a frozen
  backbone (He et al., 2022, 'Masked Autoencoders', appendix A.1).
  """

  @property
  def mixes_examples(self) -> bool:
    """Whether an example's logits in training depend on the others'."""
    return self.feature_norm

  def setup(self) -> None:
    """Makes what comes after the backbone."""
    if self.feature_norm:
      self.head_norm = batch_norm.BatchNorm(axis_name=self.axis_name)
    self.dropout = dropout.Dropout(self.dropout_rate)
    self.head = layers.Dense(self.num_genres, dtype=self.dtype)

  def __call__(self, images: jax.Array, *, train: bool) -> jax.Array:
    """Maps normalised images [B, H, W, 3] to logits [B, num_genres]."""
    return self.classify(self.embed(images, train=train), train=train)

  def embed(self, images: jax.Array, *, train: bool) -> jax.Array:
    """Maps normalised images [B, H, W, 3] to embeddings [B, F]."""
    return self.backbone(images, train=train)

  def classify(self, embeddings: jax.Array, *, train: bool) -> jax.Array:
    """Maps embeddings [B, F] to logits [B, num_genres]."""
    if self.feature_norm:
      # BatchNorm is for pictures [B, H, W, C].
      embeddings = self.head_norm(
        embeddings[:, None, None], use_batch_statistics=train
      )[:, 0, 0]
    embeddings = self.dropout(embeddings, deterministic=not train)
    return self.head(embeddings).astype(jnp.float32)
