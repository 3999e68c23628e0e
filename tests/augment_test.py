import jax
import jax.numpy as jnp
import numpy as np
import pytest

from configs import default
from genre_flax import augment


def make_config(**changes):
  config = default.get_config().augment
  config.crop_scale = 1.0
  config.shift = config.brightness = config.contrast = config.mirror = 0.0
  config.update(changes)
  return config


def random_images(batch=4, height=12, width=10):
  return jnp.asarray(
    np.random.default_rng(0).integers(0, 256, (batch, height, width, 3)),
    jnp.uint8,
  )


def apply(images, config, *, seed=0, index=None):
  index = jnp.arange(len(images)) if index is None else index
  return augment.augment(
    images, key=jax.random.key(seed), index=index, config=config
  )


def test_normalize_worked_out_by_hand():
  images = jnp.array([0, 127, 255], jnp.uint8).reshape(1, 1, 1, 3)
  out = augment.normalize(images, pixel_mean=127.0, pixel_scale=128.0)
  np.testing.assert_array_equal(out.ravel(), [-127 / 128, 0.0, 1.0])


def test_a_config_that_asks_for_nothing_changes_nothing():
  images = random_images()
  assert apply(images, make_config()) is images


ALL = dict(crop_scale=0.6, shift=0.1, brightness=0.3, contrast=0.3, mirror=0.5)


@pytest.mark.parametrize('name', ALL)
def test_each_kind_changes_the_images_and_is_drawn_by_the_key(name):
  images = random_images(batch=16)
  config = make_config(**{name: ALL[name]})
  out = apply(images, config)
  assert not np.array_equal(out, images)
  np.testing.assert_array_equal(out, apply(images, config))
  assert not np.array_equal(out, apply(images, config, seed=1))


def test_an_example_is_augmented_alike_in_any_part_of_the_batch():
  images, config = random_images(batch=8), make_config(**ALL)
  whole = apply(images, config)
  part = apply(images[4:6], config, index=jnp.array([4, 5]))
  np.testing.assert_allclose(part, whole[4:6], atol=1e-3)


def test_values_stay_in_the_range_of_pixels():
  out = apply(random_images(batch=64), make_config(**ALL))
  assert out.shape == (64, 12, 10, 3)
  assert float(out.min()) >= 0
  assert float(out.max()) <= 255


def test_mirror_reverses_columns():
  images = random_images(batch=64)
  out = np.asarray(apply(images, make_config(mirror=0.5)))
  is_same = [np.allclose(a, b) for a, b in zip(out, images, strict=True)]
  is_mirrored = [
    np.allclose(a, b[:, ::-1]) for a, b in zip(out, images, strict=True)
  ]
  assert all(a != b for a, b in zip(is_same, is_mirrored, strict=True))
  assert 16 < sum(is_mirrored) < 48


def test_a_shift_moves_by_whole_shares_and_repeats_the_border():
  # A shift alone keeps the scale: a ramp stays a ramp, moved and clamped.
  ramp = jnp.broadcast_to(
    jnp.arange(0, 200, 10, dtype=jnp.uint8)[None, :, None, None],
    (32, 20, 4, 3),
  )
  out = np.asarray(apply(ramp, make_config(shift=0.25)))[:, :, 0, 0]
  moves = []
  for column in out:
    move = (column[10] - 100) / 10
    moves.append(move)
    expected = np.clip(10 * (np.arange(20) + move), 0, 190)
    np.testing.assert_allclose(column, expected, atol=1e-2)
  assert max(np.abs(moves)) <= 0.25 * 20
  assert max(moves) > 2
  assert min(moves) < -2


def test_a_crop_shows_a_part_at_a_larger_scale():
  ramp = jnp.broadcast_to(
    jnp.arange(0, 200, 10, dtype=jnp.uint8)[None, :, None, None],
    (32, 20, 4, 3),
  )
  out = np.asarray(apply(ramp, make_config(crop_scale=0.5)))[:, :, 0, 0]
  slopes = (out[:, 12] - out[:, 8]) / 4
  assert slopes.min() >= 5 - 1e-3
  assert slopes.max() <= 10 + 1e-3
  assert slopes.max() - slopes.min() > 2
  assert np.all(np.diff(out, axis=1) >= -1e-3)


def test_brightness_scales_by_at_most_its_share():
  grey = jnp.full((64, 4, 4, 3), 100, jnp.uint8)
  levels = np.asarray(apply(grey, make_config(brightness=0.2)))[:, 0, 0, 0]
  assert levels.min() >= 80 - 1e-3
  assert levels.max() <= 120 + 1e-3
  assert levels.std() > 5


def test_contrast_keeps_the_mean():
  images = jnp.asarray(
    np.tile([[[[80.0] * 3], [[120.0] * 3]]], (64, 1, 1, 1)), jnp.uint8
  )
  out = np.asarray(apply(images, make_config(contrast=0.5)))
  np.testing.assert_allclose(out.mean(axis=(1, 2, 3)), 100, atol=1e-2)
  spread = (out[:, 1, 0, 0] - out[:, 0, 0, 0]) / 40
  assert spread.min() >= 0.5 - 1e-3
  assert spread.max() <= 1.5 + 1e-3
  assert spread.std() > 0.1
