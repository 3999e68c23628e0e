"""The posters of a report: their choice, images and attribution maps."""

import base64
from collections.abc import Mapping, Sequence
import dataclasses
from typing import Any

import numpy as np

from genre_flax.attribution import map_images
from genre_flax.attribution import methods
from genre_flax.attribution import words as words_lib
from genre_flax.data import drawing
from genre_flax.evaluation import metrics
from genre_flax.evaluation import ranking
from genre_flax.inference import scored_split as scored_lib

_NUM_CONFIDENT, _NUM_PER_GENRE, _NUM_SUSPECTS = 12, 3, 12


@dataclasses.dataclass(frozen=True)
class Choice:
  """A poster of a split and the genre of its attribution map.

  Attributes:
    index: of the poster.
    genre: index of the genre.
    note: a text below the poster.
  """

  index: int
  genre: int
  note: str = ''


def most_confident(
  scored: scored_lib.ScoredSplit, *, correct: bool
) -> list[Choice]:
  """The posters with the highest scores for correct or for wrong genres.

  Of each poster, only the genre with the highest score is considered.
  """
  best = scored.scores.argmax(axis=1)
  rows = np.arange(len(scored))
  order = np.argsort(-scored.scores[rows, best], kind='stable')
  is_correct = scored.labels[rows, best] > 0
  chosen = order[is_correct[order] == correct][:_NUM_CONFIDENT]
  return [Choice(int(i), int(best[i])) for i in chosen]


def best_and_worst(
  scored: scored_lib.ScoredSplit, genre: int
) -> dict[str, list[Choice]]:
  """At most three posters each with the best and worst scores for a genre."""
  has_genre = scored.labels[:, genre] > 0
  order = np.argsort(-scored.scores[:, genre], kind='stable')
  positives, negatives = order[has_genre[order]], order[~has_genre[order]]
  groups = {
    'With the genre, highest scores': positives,
    'With the genre, lowest scores': positives[_NUM_PER_GENRE:][::-1],
    'Without the genre, highest scores': negatives,
  }
  return {
    title: [Choice(int(i), genre) for i in chosen[:_NUM_PER_GENRE]]
    for title, chosen in groups.items()
  }


def suspicious_labels(scored: scored_lib.ScoredSplit) -> list[Choice]:
  """Posters with a label that is possibly wrong.

  A label may be missing if the score of the genre is above its mean over the
  posters with the genre, and superfluous if it is below its mean over the
  posters without it (Northcutt et al., 2021, 'Confident Learning', section 3.1,
  for each genre independently).

  Returns:
    At most 6 of each kind, the least plausible labels first.
  """
  scores, has_genre = scored.scores, scored.labels > 0

  def means(chosen, empty):
    sums = (scores * chosen).sum(axis=0)
    return ranking.divide(sums, chosen.sum(axis=0), empty=empty)

  mean_with = means(has_genre, np.inf)
  mean_without = means(~has_genre, -np.inf)
  missing = np.where(~has_genre, scores - mean_with, 0)
  # A ratio, since all scores of rare genres are low.
  superfluous = np.where(
    has_genre & (scores < mean_without), 1 - scores / mean_without, 0
  )
  choices = []
  for doubt, text in ((missing, 'Missing'), (superfluous, 'Wrong')):
    order = np.argsort(-doubt, axis=None, kind='stable')[: _NUM_SUSPECTS // 2]
    for index, genre in zip(*np.unravel_index(order, doubt.shape), strict=True):
      if doubt[index, genre] > 0:
        score = f'{scored.genres[genre]} {scores[index, genre]:.2f}'
        choices.append(Choice(int(index), int(genre), f'{text}? {score}'))
  return choices


def make_cards(
  scored: scored_lib.ScoredSplit,
  groups: Sequence[Mapping[str, Sequence[Choice]]],
) -> tuple[list[dict[str, list[dict[str, Any]]]], str]:
  """Makes the cards of all choices, with their attribution maps.

  Returns:
    The cards in the structure of `groups`, and the attribution method.
  """
  explainer = methods.Explainer(scored.predictor)
  choices = [c for each in groups for chosen in each.values() for c in chosen]
  keys = sorted({(choice.index, choice.genre) for choice in choices})
  shape = scored.predictor.image_shape
  maps = {}
  if keys:
    values = explainer.maps(
      np.stack([scored.decode(index, shape) for index, _ in keys]),
      np.array([[genre] for _, genre in keys]),
    )
    maps = dict(zip(keys, values[:, 0], strict=True))
  words = None
  if scored.predictor.text is not None:
    words = words_lib.WordExplainer(scored.predictor)
  cards = [
    {
      title: [
        _make_card(scored, c, maps[c.index, c.genre], words) for c in chosen
      ]
      for title, chosen in each.items()
    }
    for each in groups
  ]
  return cards, explainer.method


def _make_card(scored, choice, map_, words) -> dict[str, Any]:
  scores, labels = scored.scores[choice.index], scored.labels[choice.index] > 0
  image = scored.decode(choice.index, drawing.POSTER_SHAPE)
  for_, against = [], []
  if words is not None:
    lines = scored.records[choice.index].text
    for_, against = words.strongest(lines, choice.genre)
  return {
    'words_for': [word for word, _ in for_],
    'words_against': [word for word, _ in against],
    'id': scored.ids[choice.index],
    'labels': [scored.genres[i] for i in np.flatnonzero(labels)],
    'top3': [
      (scored.genres[i], float(scores[i]), bool(labels[i]))
      for i in metrics.top_k(scores[None])[0]
    ],
    'map_genre': scored.genres[choice.genre],
    'note': choice.note,
    'image': _data_uri(image),
    'map_image': _data_uri(map_images.overlay(image, map_)),
  }


def _data_uri(image: np.ndarray) -> str:
  content = base64.b64encode(drawing.to_jpeg(image)).decode()
  return f'data:image/jpeg;base64,{content}'
