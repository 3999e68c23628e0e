"""Attribution methods: Grad-CAM and occlusion.

Grad-CAM (Selvaraju et al., 2017, 'Grad-CAM: Visual Explanations from Deep
Networks via Gradient-based Localization') needs the last feature map of the
network, and is as fast as a prediction. Occlusion (Zeiler and Fergus, 2014,
'Visualizing and Understanding Convolutional Networks', section 4.2) hides parts
of the poster and measures the drop of the logit; it works with any network, and
takes a hundred times longer.
"""

from collections.abc import Callable
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from genre_flax import config as config_lib
from genre_flax.inference import predictor as predictor_lib
from genre_flax.models import forward
from genre_flax.models import layers
from genre_flax.runtime import errors

METHODS = ('grad_cam', 'occlusion')
# Cells of the occlusion grid along the longer side of a poster.
_NUM_CELLS = 12
# Posters per call: their maps for all requested genres are in memory.
_BATCH_SIZE = 16

# (variables, images [N, H, W, 3], genres [N, K]) -> maps [N, K, h, w].
MapFunction = Callable[[dict[str, Any], jax.Array, jax.Array], jax.Array]


class Explainer:
  """Computes attribution maps on one device of this process.

  Maps are of whole posters, whatever `config.eval_crops` is.

  Attributes:
    method: one of METHODS.
  """

  def __init__(
    self, predictor: predictor_lib.Predictor, *, method: str | None = None
  ):
    """Selects a method.

    By default Grad-CAM if the network marks its last feature map, as all
    built-in networks do, else occlusion.

    Raises:
      InputError: the method is Grad-CAM, and the network marks no feature map.
    """
    model = predictor_lib.make_model(predictor)
    preprocessing = predictor.preprocessing
    has_feature_map = _has_feature_map(model, preprocessing)
    if method == 'grad_cam' and not has_feature_map:
      raise errors.InputError(
        'Grad-CAM needs a network that marks its last feature map by'
        f' layers.feature_map; {predictor.config.model.name!r} does not.'
        ' Occlusion works with any network.'
      )
    self.method = method or ('grad_cam' if has_feature_map else 'occlusion')
    make = {'grad_cam': make_grad_cam, 'occlusion': make_occlusion}[self.method]
    self._maps = jax.jit(make(model, preprocessing))
    self._device = predictor_lib.OneDevice(predictor)

  def maps(self, images: np.ndarray, genres: np.ndarray) -> np.ndarray:
    """Computes the attribution maps of some genres.

    Args:
      images: uint8 [N, H, W, 3] of the input size of the network; N > 0.
      genres: int [N, K], the genres to explain of each poster.

    Returns:
      float32 [N, K, h, w], coarser than the posters. The maximum of a map is 1,
      or 0 if nothing contributes to the genre.
    """
    groups = []
    for start in range(0, len(images), _BATCH_SIZE):
      group = images[start : start + _BATCH_SIZE]
      # All groups have one shape, so that one compiled program serves them.
      rows = np.resize(np.arange(len(group)), min(_BATCH_SIZE, len(images)))
      maps = self._device.run(self._maps, group[rows], genres[start + rows])
      groups.append(maps[: len(group)])
    return np.concatenate(groups)


def make_grad_cam(
  model: nn.Module, preprocessing: config_lib.Preprocessing
) -> MapFunction:
  """Grad-CAM at the last feature map of a network.

  Selvaraju et al., 2017, equations 1 and 2: the positive part of the weighted
  sum of the channels, where the weight of a channel is the mean gradient of the
  logit over its pixels.

  Returns:
    See MapFunction; the maps have the height and width of the feature map that
    the network marks.
  """

  def maps(variables, images, genres):
    zeros = jax.tree.map(
      lambda leaf: jnp.zeros(leaf.shape, leaf.dtype),
      _marked_shapes(model, variables, images, preprocessing),
    )

    def apply(added):
      logits, sown = forward.forward(
        model,
        {**variables, layers.PERTURBATIONS: added},
        images,
        preprocessing,
        mutable=[layers.FEATURE_MAPS],
      )
      return logits, jax.tree.leaves(sown)[0]

    logits, vjp, activations = jax.vjp(apply, zeros, has_aux=True)

    def of_genres(chosen):
      (gradient,) = vjp(
        jax.nn.one_hot(chosen, logits.shape[1], dtype=logits.dtype)
      )
      weights = jax.tree.leaves(gradient)[0].mean(axis=(1, 2))
      return jnp.einsum(
        'nhwc,nc->nhw',
        activations.astype(jnp.float32),
        weights.astype(jnp.float32),
      )

    return _normalize(jax.vmap(of_genres, in_axes=1, out_axes=1)(genres))

  return maps


def make_occlusion(
  model: nn.Module, preprocessing: config_lib.Preprocessing
) -> MapFunction:
  """The drop of the logit when a part of the poster is hidden.

  For each cell of a grid, the cell and its neighbors are filled with the mean
  color of the poster. The map at a cell is the mean drop over all occlusions
  that cover the cell.

  Returns:
    See MapFunction; the maps have 12 cells along the longer side of a poster.
  """

  def maps(variables, images, genres):
    def logits_of(images):
      return forward.forward(model, variables, images, preprocessing)

    masks = _occlusions(images.shape[1:3])  # [rows, columns, H, W]

    def of_poster(poster):
      image, chosen = poster
      mean = image.mean(axis=(0, 1)).astype(image.dtype)

      def of_row(hidden):
        return logits_of(jnp.where(hidden[..., None], mean, image))[:, chosen]

      drops = logits_of(image[None])[0, chosen] - jax.lax.map(of_row, masks)
      return jnp.moveaxis(drops, -1, 0)  # [K, rows, columns]

    drops = jax.lax.map(of_poster, (images, genres))
    return _normalize(_local_means(drops))

  return maps


def _occlusions(image_shape: tuple[int, int]) -> np.ndarray:
  """[rows, columns, H, W]: whether the occlusion at a cell hides a pixel."""
  height, width = image_shape
  side = max(height, width) / _NUM_CELLS
  rows, columns = max(1, round(height / side)), max(1, round(width / side))
  row_of = np.arange(height) * rows // height
  column_of = np.arange(width) * columns // width
  in_rows = abs(row_of - np.arange(rows)[:, None]) <= 1
  in_columns = abs(column_of - np.arange(columns)[:, None]) <= 1
  return in_rows[:, None, :, None] & in_columns[None, :, None, :]


def _local_means(values):
  """The mean over each cell of [N, K, rows, columns] and its neighbors."""

  def sums(array):
    return jax.lax.reduce_window(
      array, 0.0, jax.lax.add, (1, 1, 3, 3), (1, 1, 1, 1), 'SAME'
    )

  return sums(values) / sums(jnp.ones_like(values[:1, :1]))


def _normalize(maps):
  """The positive part of [N, K, h, w], each map divided by its maximum."""
  maps = jnp.maximum(maps, 0)
  highest = maps.max(axis=(2, 3), keepdims=True)
  return maps / jnp.where(highest > 0, highest, 1)


def _marked_shapes(model, variables, images, preprocessing):
  """The shape of the feature map that `layers.feature_map` marks."""

  def apply(variables, images):
    _, marked = forward.forward(
      model, variables, images, preprocessing, mutable=[layers.PERTURBATIONS]
    )
    return marked.get(layers.PERTURBATIONS, {})

  return jax.eval_shape(apply, variables, images)


def _has_feature_map(model, preprocessing) -> bool:
  images = jax.ShapeDtypeStruct((1, *preprocessing.image_shape, 3), jnp.float32)

  def apply(images):
    variables = model.init(jax.random.key(0), images, train=False)
    return _marked_shapes(model, variables, images, preprocessing)

  return bool(jax.tree.leaves(jax.eval_shape(apply, images)))
