"""Label sets: the sets of genres that films have, as a prior of the scores.

A network scores each genre independently. But a film has few genres, and they
depend on each other: Horror is often combined with Thriller, and rarely with
Romance. So the genres of a poster are modeled as one of the label sets S of the
training split (a label powerset; Tsoumakas and Katakis, 2007), in a product of
experts (Hinton, 2002) of the network and the frequency of the set:

  p(S | x)  ~  prod_{g in S} odds(g | x)^sharpness  *  lift(S)^weight

The lift is the frequency of S divided by its frequency if genres were
independent. The score of a genre is the sum of p(S | x) over the label sets
that contain it.
"""

from collections.abc import Mapping, Sequence
import dataclasses
from typing import Any

from etils import epy
import numpy as np

with epy.lazy_imports():
  from scipy import special

# The indices of the genres, ascending, and the number of posters.
Count = tuple[Sequence[int], int]
# The most frequent ones are used: all others are rare, and scoring takes time
# and memory in proportion.
MAX_LABEL_SETS = 4096
# Posters per block: each takes a number per label set.
_BLOCK = 1024


@dataclasses.dataclass(frozen=True)
class LabelSets:
  """Label sets and their influence on the scores.

  Attributes:
    members: bool [K, L], the genres of each label set.
    log_lift: [K], the logarithm of the lift.
    sharpness: exponent of the odds of the network; above 0.
    weight: exponent of the lift; at least 0.
  """

  members: np.ndarray
  log_lift: np.ndarray
  sharpness: float
  weight: float

  def to_logits(self, logits: Any, xp: Any = np) -> Any:
    """The log-odds of the genres under p(S | x).

    Args:
      logits: [N, L], of each genre independently.
      xp: numpy, or jax.numpy for arrays of JAX.

    Returns:
      [N, L]. The log-odds of a genre in none or all of the label sets are
      unchanged.
    """
    if xp is np and len(logits) > _BLOCK:
      return _in_blocks(self.to_logits, logits)
    members = self.members.astype(logits.dtype)
    prior = (self.weight * self.log_lift).astype(logits.dtype)
    masses = self.sharpness * logits @ members.T + prior
    masses = xp.exp(masses - masses.max(axis=1, keepdims=True))
    tiny = np.finfo(logits.dtype).tiny
    log_odds = xp.log(masses @ members + tiny)
    log_odds = log_odds - xp.log(masses @ (1 - members) + tiny)
    varies = self.members.any(axis=0) & ~self.members.all(axis=0)
    return xp.where(varies, log_odds, logits)

  def most_probable(self, scores: np.ndarray) -> np.ndarray:
    """The most probable label set of each poster, given scores [N, L].

    Returns:
      bool [N, L]; each row is one of `members`.
    """
    if len(scores) > _BLOCK:
      return _in_blocks(self.most_probable, scores)
    tiny = np.finfo(np.float64).eps
    logits = special.logit(np.clip(scores, tiny, 1 - tiny))
    masses = logits @ self.members.T + self.weight * self.log_lift
    return self.members[masses.argmax(axis=1)]

  def to_dict(self) -> dict[str, Any]:
    """The values as JSON types."""
    return {
      'members': [np.flatnonzero(row).tolist() for row in self.members],
      'log_lift': self.log_lift.tolist(),
      'sharpness': self.sharpness,
      'weight': self.weight,
    }


def _in_blocks(function, rows):
  blocks = (rows[i : i + _BLOCK] for i in range(0, len(rows), _BLOCK))
  return np.concatenate([function(block) for block in blocks])


def from_dict(stored: Mapping[str, Any], *, num_genres: int) -> LabelSets:
  """The inverse of `LabelSets.to_dict`.

  Raises:
    ValueError: the values are invalid; `stored` may be untrusted.
  """
  label_sets = LabelSets(
    to_members(stored['members'], num_genres=num_genres),
    np.asarray(stored['log_lift'], float),
    float(stored['sharpness']),
    float(stored['weight']),
  )
  numbers = (*label_sets.log_lift, label_sets.sharpness, label_sets.weight)
  if (
    not 1 <= len(label_sets.members) <= MAX_LABEL_SETS
    or label_sets.log_lift.shape != (len(label_sets.members),)
    or not np.isfinite(numbers).all()
    or label_sets.sharpness <= 0
    or label_sets.weight < 0
  ):
    raise ValueError(
      f'expected 1 to {MAX_LABEL_SETS:,} label sets, each with a finite'
      ' log_lift, a sharpness above 0 and a weight of at least 0'
    )
  return label_sets


def from_counts(
  counts: Sequence[Count],
  *,
  num_genres: int,
  sharpness: float,
  weight: float,
) -> LabelSets:
  """Label sets of a training split, the first of `counts`."""
  counts = counts[:MAX_LABEL_SETS]
  members = to_members([genres for genres, _ in counts], num_genres=num_genres)
  films = np.array([count for _, count in counts], float)
  share = (films @ members) / films.sum()
  with np.errstate(divide='ignore'):  # log(0) of a genre in none or all sets.
    present, absent = np.log(share), np.log1p(-share)
  independent = np.where(members, present, absent).sum(axis=1)
  return LabelSets(
    members, np.log(films / films.sum()) - independent, sharpness, weight
  )


def to_members(
  indices: Sequence[Sequence[int]], *, num_genres: int
) -> np.ndarray:
  """Label sets given by the indices of their genres, as bool [K, L].

  Raises:
    ValueError: an index is not one of a genre.
  """
  members = np.zeros((len(indices), num_genres), bool)
  for row, genres in zip(members, indices, strict=True):
    if not all(0 <= index < num_genres for index in genres):
      raise ValueError(
        f'{genres!r:.100} are not indices of {num_genres} genres'
      )
    row[list(genres)] = True
  return members
