"""Attribution maps of networks whose evidence is known."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
from PIL import Image
from PIL import ImageDraw
import pytest
from scipy import stats

from examples import wide_net
from genre_flax import config as config_lib
from genre_flax.attribution import map_images
from genre_flax.attribution import methods
from genre_flax.evaluation import calibration
from genre_flax.inference import predictor as predictor_lib
from genre_flax.models import layers
from genre_flax.models import registry
from genre_flax.models import tiny
from genre_flax.runtime import errors
from genre_flax.runtime import parallel
from tests.support import helpers

GENRES = ('Disc', 'Square')
HEIGHT, WIDTH = 48, 32


def make_predictor(variables, **changes):
  """A predictor with the given variables."""
  config = helpers.tiny_config(
    'unused', image_height=HEIGHT, image_width=WIDTH, **changes
  )
  return predictor_lib.Predictor(
    genres=GENRES,
    label_prior=np.full(2, 0.5),
    constant_baseline={},
    config=config,
    fingerprint='',
    calibration=calibration.identity(GENRES),
    step=1,
    which='best',
    variables=parallel.replicate(jax.device_get(variables)),
    eval_step=None,
  )


def draw(rng, *, disc=None, square=None):
  """A noisy poster with a disc and a square centered at (x, y)."""
  pixels = rng.normal(110, 18, (HEIGHT, WIDTH, 3))
  image = Image.fromarray(np.uint8(np.clip(pixels, 0, 255)))
  pen = ImageDraw.Draw(image)
  for place, shape, color in (
    (disc, pen.ellipse, (225, 60, 50)),
    (square, pen.rectangle, (50, 90, 225)),
  ):
    if place is not None:
      x, y = place
      shape((x - 4, y - 4, x + 4, y + 4), fill=color)
  return np.asarray(image)


def random_place(rng):
  return rng.integers(5, WIDTH - 5), rng.integers(5, HEIGHT - 5)


def normalize(images, config):
  return (images.astype(np.float32) - config.pixel_mean) / config.pixel_scale


@pytest.fixture(scope='module')
def trained():
  """A network trained to recognize discs and squares."""
  rng = np.random.default_rng(0)
  labels = jnp.asarray(rng.integers(0, 2, (256, 2)))
  images = [
    draw(
      rng,
      disc=random_place(rng) if has_disc else None,
      square=random_place(rng) if has_square else None,
    )
    for has_disc, has_square in np.asarray(labels)
  ]
  images = jnp.asarray(normalize(np.stack(images), make_predictor({}).config))
  model = tiny.Tiny(num_genres=2, features=(8, 16))
  params = model.init(jax.random.key(0), images[:1], train=False)['params']
  optimizer = optax.adam(1e-2)

  @jax.jit
  def update(params, state, rows):
    def loss(params):
      logits = model.apply({'params': params}, images[rows], train=False)
      return optax.sigmoid_binary_cross_entropy(logits, labels[rows]).mean()

    value, gradients = jax.value_and_grad(loss)(params)
    updates, state = optimizer.update(gradients, state)
    return optax.apply_updates(params, updates), state, value

  state = optimizer.init(params)
  for rows in rng.integers(0, len(labels), (120, 64)):
    params, state, loss = update(params, state, rows)
  assert loss < 0.15
  return make_predictor({'params': params})


@pytest.fixture(scope='module')
def posters():
  """20 posters with a disc and a square, and the places of the discs."""
  rng = np.random.default_rng(1)
  places = [random_place(rng) for _ in range(20)]
  images = [draw(rng, disc=place, square=random_place(rng)) for place in places]
  return np.stack(images), np.array(places)


def argmax(map_):
  """(x, y) of the maximum of a map, in pixels of the poster."""
  large = map_images.resize(map_, height=HEIGHT, width=WIDTH)
  y, x = np.unravel_index(large.argmax(), large.shape)
  return np.array([x, y])


def maps_of_discs(predictor, images, *, method):
  explainer = methods.Explainer(predictor, method=method)
  return explainer.maps(images, np.zeros((len(images), 1), int))[:, 0]


@pytest.mark.parametrize('method', methods.METHODS)
def test_map_is_highest_at_object(trained, posters, method):
  images, places = posters
  maps = maps_of_discs(trained, images, method=method)
  found = np.stack([argmax(map_) for map_ in maps])
  distances = np.linalg.norm(found - places, axis=1)
  assert (distances < 9).mean() >= 0.9


class Known(nn.Module):
  """Two known feature maps, their means, and known weights."""

  num_genres: int = 2

  @nn.compact
  def __call__(self, images, *, train):
    x = layers.feature_map(self, images[..., :2])
    weights = jnp.array([[1.0, -2.0], [0.5, 3.0]])
    return x.mean(axis=(1, 2)) @ weights


def test_grad_cam_by_hand():
  images = np.random.default_rng(0).uniform(0, 9, (3, 4, 5, 3))
  grad_cam = methods.make_grad_cam(
    Known(), config_lib.Preprocessing(4, 5, 0.0, 1.0)
  )
  genres = np.array([[0, 1], [1, 0], [1, 1]])
  maps = grad_cam({}, jnp.asarray(images, jnp.float32), genres)
  for image, chosen, got in zip(images, genres, maps, strict=True):
    for genre, map_ in zip(chosen, got, strict=True):
      weights = [(1.0, 0.5), (-2.0, 3.0)][genre]
      summed = weights[0] * image[..., 0] + weights[1] * image[..., 1]
      expected = np.maximum(summed, 0) / summed.max()
      np.testing.assert_allclose(map_, expected, atol=1e-5)
  # Without positive evidence, the map is zero.
  images = np.zeros((1, 4, 5, 3), np.float32)
  images[..., 0] = 1
  assert not np.asarray(grad_cam({}, images, np.array([[1]]))).any()


def test_occlusion_by_hand():
  """The network reads the top left cell of a 12 x 8 grid only."""

  class Corner(nn.Module):
    @nn.compact
    def __call__(self, images, *, train):
      return images[:, :4, :4].mean(axis=(1, 2))

  images = np.zeros((1, HEIGHT, WIDTH, 3), np.float32)
  images[:, :4, :4, 0] = 200
  occlusion = methods.make_occlusion(
    Corner(), config_lib.Preprocessing(HEIGHT, WIDTH, 0.0, 1.0)
  )
  got = np.asarray(occlusion({}, images, np.array([[0]])))[0, 0]
  assert got.shape == (12, 8)
  # The cell is hidden by 4 occlusions: at itself and at its 3 neighbors. Along
  # an axis these are all that cover it, 2 of 3 that cover the next cell, and 1
  # of 3 that cover the cell after that.
  expected = np.zeros((12, 8))
  covering = np.array([1, 2 / 3, 1 / 3])
  expected[:3, :3] = np.outer(covering, covering)
  np.testing.assert_allclose(got, expected, atol=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize('name', helpers.IMAGE_NETWORKS)
def test_all_networks_mark_last_feature_map(name, short_networks):
  model = registry.create_model(name, num_genres=3)
  images = np.random.default_rng(0).uniform(0, 255, (2, 96, 96, 3))
  grad_cam = methods.make_grad_cam(
    model, config_lib.Preprocessing(96, 96, 127.0, 128.0)
  )

  @jax.jit
  def run(images):
    variables = model.init(jax.random.key(0), images, train=False)
    _, sown = model.apply(
      variables, images, train=False, mutable=[layers.FEATURE_MAPS]
    )
    maps = grad_cam(variables, images, jnp.array([[0, 1, 2]] * 2))
    return maps, sown

  maps, sown = run(jnp.asarray(images, jnp.float32))
  (feature_map,) = jax.tree.leaves(sown)
  assert maps.shape == (2, 3, *feature_map.shape[1:3])
  assert np.isfinite(maps).all()
  assert maps.max() == 1


def test_network_without_feature_map_uses_occlusion(monkeypatch):
  model = wide_net.WideNet(2, jnp.float32, None, width=4)
  images = np.zeros((1, HEIGHT, WIDTH, 3), np.float32)
  variables = model.init(jax.random.key(0), images, train=False)
  predictor = make_predictor(variables)
  monkeypatch.setattr(predictor_lib, 'make_model', lambda _: model)
  assert methods.Explainer(predictor).method == 'occlusion'
  with pytest.raises(errors.InputError, match='does not. Occlusion works'):
    methods.Explainer(predictor, method='grad_cam')


def test_maps_are_independent_of_batching(trained, posters):
  images, _ = posters
  genres = np.zeros((len(images), 1), int)
  explainer = methods.Explainer(trained)
  together = explainer.maps(images, genres)
  assert len(together) == 20  # More than one group, and the last is smaller.
  for i in (0, 15, 16, 19):
    alone = explainer.maps(images[i : i + 1], genres[i : i + 1])
    np.testing.assert_allclose(together[i : i + 1], alone, atol=1e-4)


@pytest.mark.parametrize('method', methods.METHODS)
def test_shuffled_weights_change_maps(trained, posters, method):
  images, _ = posters
  rng = np.random.default_rng(0)
  shuffled = make_predictor(
    jax.tree.map(
      lambda leaf: rng.permutation(leaf.ravel()).reshape(leaf.shape),
      jax.device_get(trained.variables),
    )
  )
  correlations = [
    stats.spearmanr(one.ravel(), other.ravel()).statistic
    for one, other in zip(
      maps_of_discs(trained, images, method=method),
      maps_of_discs(shuffled, images, method=method),
      strict=True,
    )
    if np.ptp(one) > 0 and np.ptp(other) > 0
  ]
  assert len(correlations) > 5
  assert np.mean(correlations) < 0.7
