"""Which posters the report shows, and their pictures."""

import base64
from collections.abc import Sequence
import dataclasses

import numpy as np

from genre_flax.attribution import map_images
from genre_flax.attribution import methods
from genre_flax.data import drawing
from genre_flax.evaluation import metrics
from genre_flax.evaluation import ranking
from genre_flax.inference import scored_split as scored_lib

NUM_SURE, NUM_OF_GENRE, NUM_SUSPECTS = 12, 3, 12


@dataclasses.dataclass(frozen=True)
class Choice:
  """A poster, and the genre that it is shown for.

  Attributes:
    index: of the poster.
    genre: its index.
    note: why, in words; '' where the heading says it.
  """

  index: int
  genre: int
  note: str = ''


@dataclasses.dataclass(frozen=True)
class Named:
  """A genre that a poster was given.

  Attributes:
    name: of the genre.
    score: of it.
    is_right: whether the poster has it.
  """

  name: str
  score: float
  is_right: bool


@dataclasses.dataclass(frozen=True)
class Card:
  """A poster as it is shown.

  Attributes:
    id: of the poster.
    genres: that it has.
    named: the three likeliest ones.
    looked_for: the genre of the map.
    note: see Choice.
    picture: a data URI.
    heat_map: a data URI, of where the network looked.
  """

  id: str
  genres: Sequence[str]
  named: Sequence[Named]
  looked_for: str
  note: str
  picture: str
  heat_map: str


def surest(scored: scored_lib.ScoredSplit, *, right: bool) -> list[Choice]:
  """The posters whose likeliest genre is right, or wrong, by its score."""
  best = scored.scores.argmax(axis=1)
  rows = np.arange(len(scored))
  score = scored.scores[rows, best]
  is_right = scored.labels[rows, best] > 0
  order = np.argsort(-score, kind='stable')
  chosen = order[is_right[order] == right][:NUM_SURE]
  return [Choice(int(i), int(best[i])) for i in chosen]


def best_and_worst(
  scored: scored_lib.ScoredSplit, genre: int
) -> tuple[list[Choice], list[Choice], list[Choice]]:
  """The posters that show best what the network knows of a genre.

  Returns:
    Those that have it and score highest, that have it and score lowest, and
    that have it not and score highest; three each, or fewer.
  """
  score, has = scored.scores[:, genre], scored.labels[:, genre] > 0
  order = np.argsort(-score, kind='stable')
  having, lacking = order[has[order]], order[~has[order]]
  worst = having[NUM_OF_GENRE:][::-1]
  return tuple(
    [Choice(int(i), genre) for i in chosen[:NUM_OF_GENRE]]
    for chosen in (having, worst, lacking)
  )


def suspect_labels(scored: scored_lib.ScoredSplit) -> list[Choice]:
  """The posters of which a label looks wrong.

  A missing one: the genre's score is above its mean over the posters that have
  it. One too many: it is below its mean over those that have it not (Northcutt
  et al., 2021, 'Confident Learning', section 3.1, for each genre alone). Those
  come first whose score is farthest from what the label says; half of each
  kind, where there are so many.
  """
  scores, has = scored.scores, scored.labels > 0
  of_having = ranking.divide(
    (scores * has).sum(axis=0), has.sum(axis=0), empty=np.inf
  )
  of_lacking = ranking.divide(
    (scores * ~has).sum(axis=0), (~has).sum(axis=0), empty=-np.inf
  )
  missing = np.where(~has & (scores > of_having), scores - of_having, 0)
  # As a share, since scores of rare genres are all small.
  extra = np.where(has & (scores < of_lacking), 1 - scores / of_lacking, 0)
  choices = []
  for doubt, words in (
    (missing, 'not among its genres: {}'),
    (extra, 'among its genres: {}'),
  ):
    order = np.argsort(-doubt, axis=None, kind='stable')[: NUM_SUSPECTS // 2]
    for index, genre in zip(*np.unravel_index(order, doubt.shape), strict=True):
      if doubt[index, genre] > 0:
        name = f'{scored.genres[genre]} {scores[index, genre]:.2f}'
        choices.append(Choice(int(index), int(genre), words.format(name)))
  return choices


class Cards:
  """Makes the cards of chosen posters; each map is computed once."""

  def __init__(
    self,
    scored: scored_lib.ScoredSplit,
    choices: Sequence[Choice],
  ):
    """Decodes the posters, and looks where the network looked.

    Args:
      scored: the split.
      choices: all that will be shown.
    """
    self._scored = scored
    self._pictures: dict[int, np.ndarray] = {}
    self._top = metrics.top_k(scored.scores)
    explainer = methods.Explainer(scored.predictor)
    self.method = explainer.method
    wanted = sorted({(choice.index, choice.genre) for choice in choices})
    self._maps: dict[tuple[int, int], np.ndarray] = {}
    if not wanted:
      return
    pixels = {}
    for index, _ in wanted:
      if index not in pixels:
        pixels[index] = scored.decode(index, scored.predictor.image_shape)
        self._pictures[index] = scored.decode(index, drawing.POSTER_SHAPE)
    maps = explainer.maps(
      np.stack([pixels[index] for index, _ in wanted]),
      np.array([[genre] for _, genre in wanted]),
    )
    self._maps.update(zip(wanted, maps[:, 0], strict=True))

  def make(self, choices: Sequence[Choice]) -> list[Card]:
    """The cards of some of the choices."""
    return [self._make(choice) for choice in choices]

  def _make(self, choice: Choice) -> Card:
    scored, index = self._scored, choice.index
    labels = scored.labels[index] > 0
    picture = self._pictures[index]
    map_ = self._maps[index, choice.genre]
    return Card(
      id=scored.ids[index],
      genres=[scored.genres[i] for i in np.flatnonzero(labels)],
      named=[
        Named(scored.genres[i], float(scored.scores[index, i]), bool(labels[i]))
        for i in self._top[index]
      ],
      looked_for=scored.genres[choice.genre],
      note=choice.note,
      picture=_to_uri(picture),
      heat_map=_to_uri(map_images.overlay(picture, map_)),
    )


def data_uri(content: bytes, media_type: str = 'image/jpeg') -> str:
  """A data URI with the content of a file."""
  return f'data:{media_type};base64,{base64.b64encode(content).decode()}'


def _to_uri(picture: np.ndarray) -> str:
  return data_uri(drawing.to_jpeg(picture))
