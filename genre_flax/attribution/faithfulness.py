"""Whether a map shows what the network really goes by.

Deletion and insertion (Petsiuk et al., 2018, 'RISE: Randomized Input Sampling
for Explanation of Black-box Models', section 4.1): the pixels where a map is
highest are taken away first, or put back first, and the score is followed. And
the sanity check of Adebayo et al., 2018 ('Sanity Checks for Saliency Maps'):
a network with other weights must give another map.
"""

from collections.abc import Callable, Mapping, Sequence
import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
from PIL import Image
from PIL import ImageFilter

from genre_flax.attribution import attribution
from genre_flax.attribution import heat_map
from genre_flax.inference import predictor as predictor_lib

# Maps that know nothing of the network, to compare with.
RANDOM, CENTRE = 'random map', 'centred blob'
# Shares of the pixels at which the score is looked at.
_NUM_STEPS = 10


@dataclasses.dataclass(frozen=True)
class Faithfulness:
  """What some maps are worth, a number for each poster.

  Attributes:
    deletion: [N], the mean score while pixels are taken away, the map's highest
      first. Low is good.
    insertion: [N], the mean score while they are put back. High is good.
  """

  deletion: np.ndarray
  insertion: np.ndarray


class Judge:
  """Follows a network's scores while pixels go and come."""

  def __init__(self, predictor: predictor_lib.Predictor):
    """Takes the network of `predictor_lib.restore`."""
    model, config = predictor_lib.make_model(predictor), predictor.config
    self._network = predictor_lib.OneDevice(predictor)

    def follow(variables, shown, hidden, rank, genre):
      """Scores [steps + 1], as the pixels of one poster are hidden."""
      shares = jnp.linspace(0, 1, _NUM_STEPS + 1)
      is_hidden = rank < shares[:, None, None, None]
      images = predictor.preprocessing.normalize(
        jnp.where(is_hidden, hidden, shown)
      )
      logits = model.apply(variables, images, train=False)
      return jax.nn.sigmoid(logits[:, genre])

    self._follow = jax.jit(follow)

  def judge(
    self, images: np.ndarray, genres: np.ndarray, maps: np.ndarray
  ) -> Faithfulness:
    """Measures how faithful maps are.

    Args:
      images: uint8 [N, H, W, 3], of the network's input size.
      genres: int [N], the genre of each map.
      maps: [N, h, w].

    Returns:
      The scores' means, by the trapezoidal rule.
    """
    height, width = images.shape[1:3]
    deletion, insertion = [], []
    for image, genre, map_ in zip(images, genres, maps, strict=True):
      rank = _rank(heat_map.enlarge(map_, height=height, width=width))
      gray = np.broadcast_to(image.mean(axis=(0, 1)), image.shape)
      blurred = np.asarray(
        Image.fromarray(image).filter(
          ImageFilter.GaussianBlur(max(height, width) / 4)
        ),
        float,
      )
      # Taken away: the highest are hidden first. Put back: the lowest are.
      for means, hidden, order in (
        (deletion, gray, rank),
        (insertion, blurred, 1 - rank),
      ):
        scores = self._network.run(
          self._follow,
          image.astype(np.float32),
          hidden.astype(np.float32),
          order[..., None].astype(np.float32),
          genre,
        )
        means.append(np.trapezoid(scores) / _NUM_STEPS)
    return Faithfulness(np.array(deletion), np.array(insertion))


def _rank(map_: np.ndarray) -> np.ndarray:
  """The share of pixels that are higher, [H, W]; ties at random."""
  chance = np.random.default_rng(0).random(map_.size)
  order = np.lexsort((chance, -map_.ravel()))
  rank = np.empty(map_.size)
  rank[order] = (np.arange(map_.size) + 0.5) / map_.size
  return rank.reshape(map_.shape)


def ignorant_maps(shape: tuple[int, int, int]) -> dict[str, np.ndarray]:
  """Maps [N, h, w] that know nothing: random ones, and blobs in the middle."""
  _, height, width = shape
  rows = (np.arange(height)[:, None] + 0.5) / height - 0.5
  columns = (np.arange(width) + 0.5) / width - 0.5
  blob = np.exp(-(rows**2 + columns**2) / (2 * 0.25**2))
  return {
    RANDOM: np.random.default_rng(0).random(shape),
    CENTRE: np.broadcast_to(blob, shape),
  }


def compare(
  predictor: predictor_lib.Predictor,
  images: np.ndarray,
  genres: np.ndarray,
  *,
  methods: Sequence[str],
  progress: Callable[[str], None] = lambda done: None,
) -> dict[str, Faithfulness]:
  """Judges the maps of some methods, and those that know nothing.

  Args:
    predictor: of `predictor_lib.restore`.
    images: uint8 [N, H, W, 3], of the network's input size.
    genres: int [N], the genre to explain of each.
    methods: of `attribution.METHODS`, at least one.
    progress: is told of the maps that were made, and of those that were judged.

  Returns:
    What each is worth, by name.
  """
  judge = Judge(predictor)
  maps: dict[str, np.ndarray] = {}
  for method in methods:
    explainer = attribution.Explainer(predictor, method=method)
    maps[method] = explainer.maps(images, genres[:, None])[:, 0]
    progress(f'maps by {method}')
  maps |= ignorant_maps(next(iter(maps.values())).shape)
  found = {}
  for name, of in maps.items():
    found[name] = judge.judge(images, genres, of)
    progress(f'deletion and insertion of {name}')
  return found


def similarity_to_random_weights(
  predictor: predictor_lib.Predictor,
  images: np.ndarray,
  genres: np.ndarray,
  *,
  method: str,
) -> float:
  """How much the maps are those of a network that has learnt nothing.

  Args:
    predictor: of `predictor_lib.restore`.
    images: uint8 [N, H, W, 3], of the network's input size.
    genres: int [N], the genre to explain of each.
    method: one of `attribution.METHODS`.

  Returns:
    The mean over posters of Spearman's rank correlation of the two maps, in
    [-1, 1]; NaN where no poster has two maps that are not the same everywhere.
  """
  from scipy import stats  # Here, since it is slow to import.

  random = dataclasses.replace(
    predictor, variables=_shuffled(predictor.variables)
  )
  one, other = (
    attribution.Explainer(of, method=method).maps(images, genres[:, None])[:, 0]
    for of in (predictor, random)
  )
  correlations = [
    stats.spearmanr(a.ravel(), b.ravel()).statistic
    for a, b in zip(one, other, strict=True)
    if np.ptp(a) > 0 and np.ptp(b) > 0
  ]
  return float(np.mean(correlations)) if correlations else float('nan')


def _shuffled(variables: Mapping) -> dict:
  """The variables with the numbers of each parameter in a random order.

  So each layer keeps its scale, and loses what it has learnt.
  """
  rng = np.random.default_rng(0)
  return {
    **variables,
    'params': jax.tree.map(
      lambda array: rng.permutation(np.asarray(array).ravel()).reshape(
        array.shape
      ),
      jax.device_get(variables['params']),
    ),
  }
