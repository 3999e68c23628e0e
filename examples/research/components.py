"""Custom parts of a research project, named 'module:attribute' in a config."""

from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import optax

from genre_flax.training import objectives


class Mixer(nn.Module):
  """MLP-Mixer (Tolstikhin et al., 2021)."""

  num_genres: int
  dtype: Any
  axis_name: str | None
  patch: int = 16
  width: int = 32
  num_blocks: int = 2
  mixes_examples = False

  @nn.compact
  def __call__(self, images: jax.Array, *, train: bool) -> jax.Array:
    """Maps normalized images [B, H, W, 3] to logits [B, num_genres]."""
    return self.head(self.mix(images))

  def mix(self, images: jax.Array) -> jax.Array:
    """Maps normalized images to embeddings [B, width]."""
    size = (self.patch, self.patch)
    x = nn.Conv(self.width, size, size, name='patches')(images)
    x = x.reshape(len(x), -1, self.width)
    for _ in range(self.num_blocks):
      y = nn.LayerNorm()(x).swapaxes(1, 2)
      x += nn.Dense(x.shape[1])(nn.gelu(nn.Dense(64)(y))).swapaxes(1, 2)
      y = nn.LayerNorm()(x)
      x += nn.Dense(self.width)(nn.gelu(nn.Dense(64)(y)))
    return nn.LayerNorm()(x).mean(axis=1)

  def head(self, embeddings: jax.Array) -> jax.Array:
    """Maps embeddings to logits."""
    return nn.Dense(self.num_genres, name='head')(embeddings)


class YearMixer(Mixer):
  """A Mixer that gets the film's year, an extra column of the dataset."""

  @nn.compact
  def __call__(
    self, images: jax.Array, *, train: bool, year: jax.Array
  ) -> jax.Array:
    """Maps normalized images [B, H, W, 3] and years [B] to logits."""
    decade = (year[:, None] - 2000) / 10
    return self.head(jnp.concatenate([self.mix(images), decade], axis=1))


def soft_f1(logits: jax.Array, labels: jax.Array) -> jax.Array:
  """1 - macro soft-F1 of the batch, the same for each example."""
  p = jax.nn.sigmoid(logits)
  f1 = 2 * (p * labels).sum(axis=0) / (p + labels).sum(axis=0)
  return jnp.full(len(logits), 1 - f1.mean())


class CutMix(objectives.MultiLabel):
  """CutMix (Yun et al., 2019) with vertical cuts: a strip of the next image."""

  def loss(
    self,
    model: nn.Module,
    variables: dict[str, Any],
    batch: dict[str, Any],
    rngs: dict[str, jax.Array],
  ) -> tuple[jax.Array, dict[str, Any]]:
    """See `objectives.MultiLabel.loss`."""
    images, labels = batch['inputs']['image'], batch['labels']
    share = jax.random.uniform(rngs['objective'])
    is_own = jnp.arange(images.shape[2]) < share * images.shape[2]
    images = jnp.where(is_own[:, None], images, jnp.roll(images, 1, axis=0))
    share = is_own.mean()
    labels = share * labels + (1 - share) * jnp.roll(labels, 1, axis=0)
    inputs = {**batch['inputs'], 'image': images}
    return super().loss(
      model, variables, {**batch, 'inputs': inputs, 'labels': labels}, rngs
    )


def inverse_square_root(
  *, num_train_steps: int, num_warmup_steps: int, learning_rate: float
) -> optax.Schedule:
  """Linear warm-up, then decay with the square root of the step."""
  del num_train_steps
  warmup = max(1, num_warmup_steps)

  def schedule(step):
    step = step + 1
    return learning_rate * jnp.minimum(step / warmup, (warmup / step) ** 0.5)

  return schedule
