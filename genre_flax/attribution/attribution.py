"""Where a network looked: maps of what spoke for a genre.

Grad-CAM (Selvaraju et al., 2017, 'Grad-CAM: Visual Explanations from Deep
Networks via Gradient-based Localization') reads the network's last feature map,
and is as fast as scoring. Occlusion (Zeiler and Fergus, 2014, 'Visualizing and
Understanding Convolutional Networks', section 4.2) hides parts of the poster
and looks how much less sure the network is; it asks nothing of the network, and
is a hundred times slower. `faithfulness` holds both to account.
"""

from collections.abc import Callable, Iterator
import functools
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from genre_flax import config as config_lib
from genre_flax.inference import predictor as predictor_lib
from genre_flax.inference import single_device
from genre_flax.models import forward
from genre_flax.models import layers
from genre_flax.runtime import errors

METHODS = ('grad_cam', 'occlusion')
# Cells along the longer side of a poster, which are hidden with those around.
_CELLS = 12
# Posters at a time: their maps for all genres asked are in memory.
_AT_A_TIME = 16

# (variables, images [N, H, W, 3], genres [N, K]) -> maps [N, K, h, w].
MapFunction = Callable[[dict[str, Any], jax.Array, jax.Array], jax.Array]


class Explainer:
  """Makes maps for posters of the size that a network takes.

  Runs on one device of this process. The posters are looked at as a whole,
  whatever `config.eval_crops` says.
  """

  def __init__(
    self, predictor: predictor_lib.Predictor, *, method: str | None = None
  ):
    """Prepares a method.

    Args:
      predictor: of `predictor_lib.restore`.
      method: one of METHODS; None for Grad-CAM where the network marks its last
        feature map, as all of `models` do, and else occlusion.

    Raises:
      InputError: Grad-CAM is asked for, and the network marks no feature map.
    """
    model = predictor_lib.make_model(predictor)
    possible = methods_of(predictor)
    if method is not None and method not in possible:
      raise errors.InputError(
        f'The network {predictor.config.model.name!r} does not mark its last'
        ' feature map, by layers.feature_map, which Grad-CAM needs; occlusion'
        ' works with any network.'
      )
    self.method = method or possible[0]
    make = {'grad_cam': make_grad_cam, 'occlusion': make_occlusion}[self.method]
    self._maps = jax.jit(make(model, predictor.preprocessing))
    self._network = single_device.OneDevice(predictor)

  def maps(self, images: np.ndarray, genres: np.ndarray) -> np.ndarray:
    """Maps of what speaks for some genres.

    Args:
      images: uint8 [N, H, W, 3], of the network's input size.
      genres: int [N, K], the genres that are asked about, of each poster.

    Returns:
      float32 [N, K, h, w], coarser than the posters, from 0, where nothing
      speaks for the genre, to 1 where most does. Where nothing does anywhere,
      all is 0.
    """
    pieces = list(self._in_groups(images, genres))
    return np.concatenate(pieces)

  def _in_groups(self, images, genres) -> Iterator[np.ndarray]:
    for start in range(0, len(images), _AT_A_TIME):
      group = slice(start, start + _AT_A_TIME)
      size = len(images[group])
      # All groups have one shape, so that they share one program.
      rows = np.resize(np.arange(size), min(_AT_A_TIME, len(images)))
      maps = self._network.run(
        self._maps, images[group][rows], genres[group][rows]
      )
      yield maps[:size]


def make_grad_cam(
  model: nn.Module, preprocessing: config_lib.Preprocessing
) -> MapFunction:
  """Grad-CAM through the network's last feature map.

  Selvaraju et al., 2017, equations 1 and 2: the channels, each weighted by the
  mean of the logit's gradient over its pixels, summed, and what is positive of
  the sum.

  Args:
    model: of `registry.create_model`, that marks its last feature map.
    preprocessing: of the network.

  Returns:
    See MapFunction; the maps have the height and width of the feature map.
  """

  def maps(variables, images, genres):
    nothing = jax.tree.map(
      lambda leaf: jnp.zeros(leaf.shape, leaf.dtype),
      _marked(model, variables, images, preprocessing),
    )

    def look(added):
      logits, seen = forward.forward(
        model,
        {**variables, layers.PERTURBATIONS: added},
        images,
        preprocessing,
        mutable=[layers.FEATURE_MAPS],
      )
      return logits, jax.tree.leaves(seen)[0]

    logits, pull_back, activations = jax.vjp(look, nothing, has_aux=True)

    def of_genres(chosen):
      (gradient,) = pull_back(
        jax.nn.one_hot(chosen, logits.shape[1], dtype=logits.dtype)
      )
      weights = jax.tree.leaves(gradient)[0].mean(axis=(1, 2))
      return jnp.einsum(
        'nhwc,nc->nhw',
        activations.astype(jnp.float32),
        weights.astype(jnp.float32),
      )

    return _to_unit(jax.vmap(of_genres, in_axes=1, out_axes=1)(genres))

  return maps


def make_occlusion(
  model: nn.Module, preprocessing: config_lib.Preprocessing
) -> MapFunction:
  """How much less sure the network is where a part of the poster is hidden.

  Each cell of a grid is hidden with those around it, in the poster's mean
  colour. The map at a cell is the mean, over all hidings that covered it, of
  how much the logit fell.

  Args:
    model: of `registry.create_model`.
    preprocessing: of the network.

  Returns:
    See MapFunction; the maps have 12 cells along the posters' longer side.
  """

  def look(variables, images):
    return forward.forward(model, variables, images, preprocessing)

  def maps(variables, images, genres):
    hides = _hidings(images.shape[1:3])  # [rows, columns, H, W]
    rows, columns = hides.shape[:2]

    def of_poster(poster):
      image, chosen = poster
      mean = image.mean(axis=(0, 1)).astype(image.dtype)

      def of_row(hidden):
        hidden = jnp.where(hidden[..., None], mean, image)
        return look(variables, hidden)[:, chosen]

      fell = look(variables, image[None])[0, chosen] - jax.lax.map(
        of_row, hides
      )
      return jnp.moveaxis(fell, -1, 0)  # [K, rows, columns]

    fell = jax.lax.map(of_poster, (images, genres))
    return _to_unit(_mean_around(fell, (rows, columns)))

  return maps


def _hidings(image_shape: tuple[int, int]) -> np.ndarray:
  """[rows, columns, H, W]: whether a pixel is hidden with a cell."""
  height, width = image_shape
  side = max(height, width) / _CELLS
  rows, columns = max(1, round(height / side)), max(1, round(width / side))
  row_of = np.arange(height) * rows // height
  column_of = np.arange(width) * columns // width
  near_row = abs(row_of - np.arange(rows)[:, None]) <= 1
  near_column = abs(column_of - np.arange(columns)[:, None]) <= 1
  return near_row[:, None, :, None] & near_column[None, :, None, :]


def _mean_around(values, shape):
  """The mean over each cell of [..., rows, columns] and those around it."""
  sums = functools.partial(
    jax.lax.reduce_window,
    init_value=0.0,
    computation=jax.lax.add,
    window_strides=(1,) * values.ndim,
    window_dimensions=(1,) * (values.ndim - 2) + (3, 3),
    padding='SAME',
  )
  ones = jnp.ones((1,) * (values.ndim - 2) + shape, values.dtype)
  return sums(values) / sums(ones)


def _to_unit(maps):
  """What is positive of [N, K, h, w], each map divided by its maximum."""
  maps = jnp.maximum(maps, 0)
  highest = maps.max(axis=(2, 3), keepdims=True)
  return maps / jnp.where(highest > 0, highest, 1)


def _marked(model, variables, images, preprocessing):
  """The shapes of the feature map that `layers.feature_map` marks."""

  def apply(variables, images):
    _, marked = forward.forward(
      model, variables, images, preprocessing, mutable=[layers.PERTURBATIONS]
    )
    return marked.get(layers.PERTURBATIONS, {})

  return jax.eval_shape(apply, variables, images)


def methods_of(predictor: predictor_lib.Predictor) -> tuple[str, ...]:
  """The methods that can be used with a network."""
  model = predictor_lib.make_model(predictor)
  if _has_feature_map(model, predictor.preprocessing):
    return METHODS
  return METHODS[1:]


def _has_feature_map(model, preprocessing) -> bool:
  images = jax.ShapeDtypeStruct((1, *preprocessing.image_shape, 3), jnp.float32)

  def marked(images):
    variables = model.init(jax.random.key(0), images, train=False)
    return _marked(model, variables, images, preprocessing)

  return bool(jax.tree.leaves(jax.eval_shape(marked, images)))
