"""Where a network looked, where it is known where it must have looked."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
from PIL import Image
from PIL import ImageDraw
import pytest

from examples import wide_net
from genre_flax import config as config_lib
from genre_flax.attribution import attribution
from genre_flax.attribution import faithfulness
from genre_flax.attribution import heat_map
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
  """The predictor of a network with given variables."""
  config = helpers.tiny_config(
    'unused', image_height=HEIGHT, image_width=WIDTH, **changes
  )
  return predictor_lib.Predictor(
    genres=GENRES,
    label_prior=np.full(2, 0.5),
    constant_answers={},
    config=config,
    fingerprint='',
    calibration=calibration.identity(GENRES),
    step=1,
    which='best',
    variables=parallel.replicate(jax.device_get(variables)),
    eval_step=None,
  )


def draw(rng, *, disc=None, square=None):
  """A noisy poster, with a disc and a square about their centres (x, y)."""
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


def somewhere(rng):
  return rng.integers(5, WIDTH - 5), rng.integers(5, HEIGHT - 5)


def normalised(images, config):
  return (images.astype(np.float32) - config.pixel_mean) / config.pixel_scale


@pytest.fixture(scope='module')
def trained():
  """A network that has learnt to tell discs and squares."""
  rng = np.random.default_rng(0)
  labels = rng.integers(0, 2, (256, 2))
  images = np.stack(
    [
      draw(
        rng,
        disc=somewhere(rng) if has_disc else None,
        square=somewhere(rng) if has_square else None,
      )
      for has_disc, has_square in labels
    ]
  )
  predictor = make_predictor({})
  model = tiny.Tiny(num_genres=2, features=(8, 16))
  images = normalised(images, predictor.config)
  params = model.init(jax.random.key(0), images[:1], train=False)['params']
  optimizer = optax.adam(1e-2)

  @jax.jit
  def update(params, state, images, labels):
    def loss(params):
      logits = model.apply({'params': params}, images, train=False)
      return optax.sigmoid_binary_cross_entropy(logits, labels).mean()

    value, gradients = jax.value_and_grad(loss)(params)
    updates, state = optimizer.update(gradients, state)
    return optax.apply_updates(params, updates), state, value

  state, losses = optimizer.init(params), []
  for step in range(120):
    batch = slice(64 * (step % 4), 64 * (step % 4 + 1))
    params, state, loss = update(params, state, images[batch], labels[batch])
    losses.append(loss)
  assert max(losses[-4:]) < 0.1
  return make_predictor({'params': params})


@pytest.fixture(scope='module')
def posters():
  """20 posters with a disc and a square, and where the discs are."""
  rng = np.random.default_rng(1)
  places = [somewhere(rng) for _ in range(20)]
  images = [draw(rng, disc=place, square=somewhere(rng)) for place in places]
  return np.stack(images), np.array(places)


def highest(map_):
  """(x, y) of a map's maximum, in pixels of the poster."""
  large = heat_map.enlarge(map_, height=HEIGHT, width=WIDTH)
  y, x = np.unravel_index(large.argmax(), large.shape)
  return np.array([x, y])


def maps_of_discs(predictor, images, *, method):
  explainer = attribution.Explainer(predictor, method=method)
  return explainer.maps(images, np.zeros((len(images), 1), int))[:, 0]


@pytest.mark.parametrize('method', attribution.METHODS)
def test_the_map_is_where_the_object_is(trained, posters, method):
  images, places = posters
  maps = maps_of_discs(trained, images, method=method)
  found = np.stack([highest(map_) for map_ in maps])
  distances = np.linalg.norm(found - places, axis=1)
  assert (distances < 9).mean() >= 0.9


@pytest.mark.parametrize('method', attribution.METHODS)
def test_the_map_moves_with_the_object(trained, method):
  corners = [(7, 8), (25, 8), (7, 40), (25, 40)]
  images = np.stack(
    [draw(np.random.default_rng(2), disc=corner) for corner in corners]
  )
  maps = maps_of_discs(trained, images, method=method)
  for map_, corner in zip(maps, corners, strict=True):
    assert np.linalg.norm(highest(map_) - corner) < 9


def test_each_genre_has_a_map_of_its_own(trained):
  image = draw(np.random.default_rng(3), disc=(8, 10), square=(24, 38))
  disc, square = attribution.Explainer(trained).maps(
    image[None], np.array([[0, 1]])
  )[0]
  assert np.linalg.norm(highest(disc) - (8, 10)) < 9
  assert np.linalg.norm(highest(square) - (24, 38)) < 9


def test_maps_are_faithful(trained, posters):
  images, _ = posters
  worth = faithfulness.compare(
    trained,
    images,
    np.zeros(len(images), int),
    methods=attribution.METHODS,
  )
  for method in attribution.METHODS:
    for ignorant in (faithfulness.RANDOM, faithfulness.CENTRE):
      deletion = worth[ignorant].deletion - worth[method].deletion
      insertion = worth[method].insertion - worth[ignorant].insertion
      assert deletion.mean() > 0.1
      assert insertion.mean() > 0.1
      assert (deletion > 0).mean() > 0.7


@pytest.mark.parametrize('method', attribution.METHODS)
def test_other_weights_give_another_map(trained, posters, method):
  images, _ = posters
  genres = np.zeros(len(images), int)
  similarity = faithfulness.similarity_to_random_weights(
    trained, images, genres, method=method
  )
  assert similarity < 0.7


def test_deletion_and_insertion_by_hand():
  """A network that scores the mean of the left half, in black and white."""

  class LeftHalf(nn.Module):
    @nn.compact
    def __call__(self, images, *, train):
      left = images[:, :, : WIDTH // 2].mean(axis=(1, 2, 3))
      return jnp.stack([left, -left], axis=1)

  predictor = make_predictor({}, pixel_mean=0.0, pixel_scale=255.0)
  judge = faithfulness.Judge.__new__(faithfulness.Judge)
  with pytest.MonkeyPatch.context() as patch:
    patch.setattr(predictor_lib, 'make_model', lambda _: LeftHalf())
    judge.__init__(predictor)
  image = np.zeros((HEIGHT, WIDTH, 3), np.uint8)
  image[:, : WIDTH // 2] = 255
  rows, columns = np.mgrid[:HEIGHT, :WIDTH]
  best = (columns < WIDTH // 2).astype(float)
  got = judge.judge(
    np.stack([image, image]), np.array([0, 0]), np.stack([best, 1 - best])
  )
  # Hidden is the mean of the poster, 0.5, at once or only in the second half.
  shares = np.linspace(0, 1, 11)
  fall = 1 - 0.5 * np.minimum(1, 2 * shares)
  late = 1 - 0.5 * np.clip(2 * shares - 1, 0, 1)
  expected = [
    np.trapezoid(1 / (1 + np.exp(-score))) / 10 for score in (fall, late)
  ]
  np.testing.assert_allclose(got.deletion, expected, atol=2e-3)
  assert got.insertion[0] > got.insertion[1]


class Known(nn.Module):
  """Two given feature maps, their means, and given weights."""

  num_genres: int = 2

  @nn.compact
  def __call__(self, images, *, train):
    x = layers.feature_map(self, images[..., :2])
    weights = jnp.array([[1.0, -2.0], [0.5, 3.0]])
    return x.mean(axis=(1, 2)) @ weights


def test_grad_cam_by_hand():
  images = np.random.default_rng(0).uniform(0, 9, (3, 4, 5, 3))
  grad_cam = attribution.make_grad_cam(
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


def test_where_nothing_speaks_for_a_genre_the_map_is_zero():
  images = np.zeros((1, 4, 5, 3), np.float32)
  images[..., 0] = 1
  grad_cam = attribution.make_grad_cam(
    Known(), config_lib.Preprocessing(4, 5, 0.0, 1.0)
  )
  assert not np.asarray(grad_cam({}, images, np.array([[1]]))).any()


def test_occlusion_by_hand():
  """Only the top left cell of a 12 x 8 grid is looked at."""

  class Corner(nn.Module):
    @nn.compact
    def __call__(self, images, *, train):
      return images[:, :4, :4].mean(axis=(1, 2))

  images = np.zeros((1, HEIGHT, WIDTH, 3), np.float32)
  images[:, :4, :4, 0] = 200
  occlusion = attribution.make_occlusion(
    Corner(), config_lib.Preprocessing(HEIGHT, WIDTH, 0.0, 1.0)
  )
  got = np.asarray(occlusion({}, images, np.array([[0]])))[0, 0]
  assert got.shape == (12, 8)
  # It is hidden by 4 hidings, all of which cover it, two thirds of which cover
  # its neighbours at the border, and one third those beyond.
  expected = np.zeros((12, 8))
  covering = np.array([1, 2 / 3, 1 / 3])
  expected[:3, :3] = np.outer(covering, covering)
  np.testing.assert_allclose(got, expected, atol=1e-5)


@pytest.mark.parametrize('name', registry.MODELS)
def test_all_networks_mark_their_last_feature_map(name, short_networks):
  model = registry.create_model(name, num_genres=3)
  images = np.random.default_rng(0).uniform(0, 255, (2, 96, 96, 3))
  grad_cam = attribution.make_grad_cam(
    model, config_lib.Preprocessing(96, 96, 127.0, 128.0)
  )

  @jax.jit
  def run(images):
    variables = model.init(jax.random.key(0), images, train=False)
    plain = model.apply(variables, images, train=False)
    asked, seen = model.apply(
      variables, images, train=False, mutable=[layers.FEATURE_MAPS]
    )
    maps = grad_cam(variables, images, jnp.array([[0, 1, 2]] * 2))
    return maps, seen, plain, asked

  maps, seen, plain, asked = run(jnp.asarray(images, jnp.float32))
  (feature_map,) = jax.tree.leaves(seen)
  assert maps.shape == (2, 3, *feature_map.shape[1:3])
  assert np.isfinite(maps).all()
  assert maps.max() == 1
  np.testing.assert_allclose(plain, asked, atol=1e-5)


def test_a_network_that_marks_nothing_is_explained_by_occlusion(monkeypatch):
  model = wide_net.WideNet(2, jnp.float32, None, width=4)
  images = np.zeros((1, HEIGHT, WIDTH, 3), np.float32)
  variables = model.init(jax.random.key(0), images, train=False)
  predictor = make_predictor(variables)
  monkeypatch.setattr(predictor_lib, 'make_model', lambda _: model)
  assert attribution.Explainer(predictor).method == 'occlusion'
  with pytest.raises(errors.InputError, match='does not mark .* occlusion'):
    attribution.Explainer(predictor, method='grad_cam')


def test_groups_do_not_change_maps(trained, posters):
  images, _ = posters
  genres = np.zeros((len(images), 1), int)
  explainer = attribution.Explainer(trained)
  together = explainer.maps(images, genres)
  assert len(together) == 20  # More than one group, and the last is smaller.
  alone = np.concatenate(
    [
      explainer.maps(images[i : i + 1], genres[i : i + 1])
      for i in (0, 15, 16, 19)
    ]
  )
  np.testing.assert_allclose(together[[0, 15, 16, 19]], alone, atol=1e-4)


def test_the_overlay_shows_the_map_and_leaves_the_rest():
  image = np.full((48, 32, 3), 90, np.uint8)
  map_ = np.zeros((12, 8))
  map_[2, 2] = 1
  drawn = heat_map.overlay(image, map_)
  assert drawn.shape == image.shape
  assert drawn.dtype == np.uint8
  changed = np.abs(drawn.astype(int) - 90).sum(axis=2)
  y, x = np.unravel_index(changed.argmax(), changed.shape)
  assert abs(y - 10) <= 2 and abs(x - 10) <= 2
  assert changed[30:, 20:].max() == 0
