import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from configs import default
from genre_flax.data import augmentation

ALL = {
  'crop_scale': 0.6,
  'translation': 0.1,
  'brightness': 0.3,
  'contrast': 0.3,
  'saturation': 0.5,
  'horizontal_flip': 0.5,
  'random_erasing': 0.5,
  'mixup_alpha': 0.4,
}


def make_config(**changes):
  config = default.get_config().augment
  config.update({name: 0.0 for name in ALL} | {'crop_scale': 1.0} | changes)
  return config


def random_images(batch=4, height=12, width=10):
  return jnp.asarray(
    np.random.default_rng(0).integers(0, 256, (batch, height, width, 3)),
    jnp.uint8,
  )


def apply(images, config, *, labels=None, seed=0, start=0):
  """Augments examples at positions from `start` of the global batch."""
  if labels is None:
    labels = jnp.zeros((len(images), 2))
  augment = jax.jit(functools.partial(augmentation.augment, config=config))
  index = jnp.arange(start, start + len(images))
  return augment(images, labels, key=jax.random.key(seed), index=index)


def augment_images(images, *, seed=0, **changes):
  return np.asarray(apply(images, make_config(**changes), seed=seed)[0])


def assert_spread(values, low, high):
  assert values.min() >= low - 1e-3
  assert values.max() <= high + 1e-3
  assert np.ptp(values) > (high - low) / 3


def test_a_config_without_augmentation_changes_nothing():
  images, labels = random_images(), jnp.zeros((4, 2))
  key, index = jax.random.key(0), jnp.arange(4)
  augmented = augmentation.augment(
    images, labels, key=key, index=index, config=make_config()
  )
  assert augmented[0] is images
  assert augmented[1] is labels


@pytest.mark.parametrize('name', ALL)
def test_each_augmentation_depends_on_the_key(name):
  images = random_images(batch=16)
  first, again, other = (
    augment_images(images, seed=seed, **{name: ALL[name]}) for seed in (0, 0, 1)
  )
  assert not np.array_equal(first, images)
  np.testing.assert_array_equal(first, again)
  assert not np.array_equal(first, other)


def test_a_pair_is_augmented_independently_of_the_others():
  images, labels, config = (
    random_images(batch=64),
    jnp.eye(64),
    make_config(**ALL),
  )
  whole = apply(images, config, labels=labels)
  part = apply(images[4:6], config, labels=labels[4:6], start=4)
  for some, everything in zip(part, whole, strict=True):
    np.testing.assert_allclose(some, everything[4:6], atol=1e-3)
  assert whole[0].shape == (64, 12, 10, 3)
  assert float(whole[0].min()) >= 0
  assert float(whole[0].max()) <= 255 + 1e-3  # Blending rounds.


def test_a_horizontal_flip_reverses_columns():
  images = random_images(batch=64)
  out = augment_images(images, horizontal_flip=0.5)
  is_same = [np.allclose(a, b) for a, b in zip(out, images, strict=True)]
  is_flipped = [
    np.allclose(a, b[:, ::-1]) for a, b in zip(out, images, strict=True)
  ]
  assert all(a != b for a, b in zip(is_same, is_flipped, strict=True))
  assert 16 < sum(is_flipped) < 48


def ramps():
  """32 images of 20 rows with levels 0, 10, ..., 190."""
  column = jnp.arange(0, 200, 10, dtype=jnp.uint8)[None, :, None, None]
  return jnp.broadcast_to(column, (32, 20, 4, 3))


def test_a_translation_repeats_the_border():
  # The scale stays the same, so a ramp is moved and clamped.
  out = augment_images(ramps(), translation=0.25)[:, :, 0, 0]
  moves = []
  for column in out:
    move = (column[10] - 100) / 10
    moves.append(move)
    expected = np.clip(10 * (np.arange(20) + move), 0, 190)
    np.testing.assert_allclose(column, expected, atol=1e-2)
  assert_spread(np.array(moves), -0.25 * 20, 0.25 * 20)


def test_a_crop_is_enlarged():
  out = augment_images(ramps(), crop_scale=0.5)[:, :, 0, 0]
  assert_spread((out[:, 12] - out[:, 8]) / 4, 5, 10)
  assert np.all(np.diff(out, axis=1) >= -1e-3)


def test_brightness_scales_levels():
  gray = jnp.full((64, 4, 4, 3), 100, jnp.uint8)
  levels = augment_images(gray, brightness=0.2)[:, 0, 0, 0]
  assert_spread(levels, 80, 120)


def test_contrast_keeps_the_mean():
  images = jnp.asarray(
    np.tile([[[[80.0] * 3], [[120.0] * 3]]], (64, 1, 1, 1)), jnp.uint8
  )
  out = augment_images(images, contrast=0.5)
  np.testing.assert_allclose(out.mean(axis=(1, 2, 3)), 100, atol=1e-2)
  assert_spread((out[:, 1, 0, 0] - out[:, 0, 0, 0]) / 40, 0.5, 1.5)


def test_saturation_keeps_the_luma_and_grays():
  images = jnp.asarray(
    np.tile([[[[120.0, 100, 80]], [[90.0, 90, 90]]]], (64, 1, 1, 1)), jnp.uint8
  )
  out = augment_images(images, saturation=0.5)
  luma = out @ np.array([0.299, 0.587, 0.114])
  np.testing.assert_allclose(luma[:, 0, 0], 103.7, atol=0.1)
  np.testing.assert_allclose(out[:, 1, 0], 90, atol=1e-2)
  assert_spread((out[:, 0, 0, 0] - out[:, 0, 0, 2]) / 40, 0.5, 1.5)


def test_random_erasing_grays_one_rectangle():
  images = jnp.zeros((64, 40, 20, 3), jnp.uint8)
  out = augment_images(images, random_erasing=0.5)[..., 0]
  assert set(np.unique(out)) == {0.0, 127.5}
  num_erased = 0
  for image in out:
    rows, columns = np.nonzero(image)
    if not len(rows):
      continue
    num_erased += 1
    height = rows.max() - rows.min() + 1
    width = columns.max() - columns.min() + 1
    assert height * width == len(rows)
    assert 0.15 * 40 - 1 <= height <= 0.5 * 40 + 1
    assert 0.15 * 20 - 1 <= width <= 0.5 * 20 + 1
  assert 16 < num_erased < 48


def test_mixup_blends_pairs_of_images_and_labels():
  images = jnp.arange(8)[:, None, None, None] * jnp.full((3, 2, 3), 20)
  images, labels = map(
    np.asarray,
    apply(
      images.astype(jnp.uint8),
      make_config(mixup_alpha=0.4),
      labels=jnp.eye(8),
    ),
  )
  for i in range(8):
    partner = i + 1 if i % 2 == 0 else i - 1
    own = labels[i, i]
    assert 0 <= own <= 1
    assert labels[i, partner] == pytest.approx(1 - own, abs=1e-6)
    assert labels[i].sum() == pytest.approx(1)
    np.testing.assert_allclose(
      images[i], 20 * (own * i + (1 - own) * partner), atol=1e-3
    )
  assert len(set(np.diag(labels)[::2].round(6))) == 4


def test_mixup_of_an_odd_number_per_device_is_an_error():
  with pytest.raises(ValueError, match='step, got 3'):
    augment_images(random_images(batch=3), mixup_alpha=0.4)
