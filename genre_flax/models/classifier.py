"""What the networks share that give features, and classify them."""

import flax.linen as nn
import jax
import jax.numpy as jnp

from genre_flax.models import layers


class Classifier(nn.Module):
  """A backbone, dropout, and a head of one logit a genre.

  A network of this kind has the attributes `num_genres`, `dropout_rate` and
  `dtype`, and makes its `backbone`, of images and `train`, before this `setup`.
  """

  def setup(self) -> None:
    """Makes what comes after the backbone."""
    self.dropout = layers.Dropout(self.dropout_rate)
    self.head = nn.Dense(self.num_genres, dtype=self.dtype)

  def __call__(self, images: jax.Array, *, train: bool) -> jax.Array:
    """Maps normalised images [B, H, W, 3] to logits [B, num_genres]."""
    return self.classify(self.features(images, train=train), train=train)

  def features(self, images: jax.Array, *, train: bool) -> jax.Array:
    """Maps normalised images [B, H, W, 3] to features [B, F]."""
    return self.backbone(images, train=train)

  def classify(self, features: jax.Array, *, train: bool) -> jax.Array:
    """Maps features [B, F] to logits [B, num_genres]."""
    features = self.dropout(features, deterministic=not train)
    return self.head(features).astype(jnp.float32)
