"""Which genres films have together, and what that says of a poster's.

A network scores each genre for itself. But a film has few genres, and they
depend on each other: Horror goes with Thriller, and hardly with Romance. So a
poster's genres are taken to be one of the combinations S that films of the
training split have (a label powerset; Tsoumakas and Katakis, 2007), and what
the network says is joined with how frequent they are (a product of experts;
Hinton, 2002):

  p(S | x)  ~  prod_{g in S} odds(g | x)^sharpness  *  lift(S)^weight

The lift is how many times as many films have just these genres as would have
them if genres came independently. The score of a genre is the sum over the
combinations that it is in.

The scores of a poster tell p(S | x) in turn: such p are an exponential family,
of which the scores are the moments.
"""

from collections.abc import Mapping, Sequence
import dataclasses
from typing import Any

import numpy as np
from scipy import special

from genre_flax.datasets.posters import combination_counts
from genre_flax.evaluation import moments
from genre_flax.evaluation import naming

# Posters to score at once: each takes a number for every combination.
_BLOCK = 1024
# Combinations times genres squared: with more, matching the moments would take
# a tenth of a second for each poster, and more.
_MAX_SIZE = 3e7


@dataclasses.dataclass(frozen=True)
class Combinations:
  """The combinations of genres, and how much they count.

  Attributes:
    members: bool [K, L], the genres of each.
    log_lift: [K], see above.
    sharpness: how much the network's logits count; above 0.
    weight: how much the lift counts; at least 0.
  """

  members: np.ndarray
  log_lift: np.ndarray
  sharpness: float
  weight: float

  def to_logits(self, logits: Any, xp: Any = np) -> Any:
    """The log-odds of each genre, once the others are known.

    Args:
      logits: [N, L], of each genre for itself.
      xp: numpy, or jax.numpy for arrays of JAX.

    Returns:
      [N, L]. A genre that no combination has, or all have, keeps its own.
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
    is_told = self.members.any(axis=0) & ~self.members.all(axis=0)
    return xp.where(is_told, log_odds, logits)

  def likeliest(self, scores: np.ndarray) -> np.ndarray:
    """The combination of each poster that its scores speak for most.

    Args:
      scores: [N, L], probabilities.

    Returns:
      bool [N, L]; each row one of `members`.
    """
    if len(scores) > _BLOCK:
      return _in_blocks(self.likeliest, scores)
    tiny = np.finfo(np.float64).eps
    logits = special.logit(np.clip(scores, tiny, 1 - tiny))
    masses = logits @ self.members.T + self.weight * self.log_lift
    return self.members[masses.argmax(axis=1)]

  def probabilities(self, scores: np.ndarray) -> np.ndarray:
    """How likely each combination is of posters with these scores.

    Where the scores are those of `to_logits`, it is the p(S | x) that they are
    sums of; of means of several networks' scores it is what they let expect:
    of all p(S) ~ exp(sum of a_g over g in S) * lift(S)^weight the one whose
    sums are the scores (`moments`).

    Args:
      scores: [N, L], probabilities. Where no p has them as its sums, some p is
        returned.

    Returns:
      [N, K]; the sum of each row is 1.
    """
    is_told = self.members.any(axis=0) & ~self.members.all(axis=0)
    return moments.match(
      scores[:, is_told],
      members=self.members[:, is_told],
      log_prior=self.weight * self.log_lift,
    )

  def name_together(self, scores: np.ndarray, *, k: int) -> np.ndarray:
    """The k genres of each poster that say most together; see `naming`.

    Args:
      scores: [N, L], probabilities.
      k: at most L are returned.

    Returns:
      int [N, min(k, L)].
    """
    if len(scores) > _BLOCK:
      return _in_blocks(lambda rows: self.name_together(rows, k=k), scores)
    return naming.name_together(self.probabilities(scores), self.members, k=k)

  @property
  def are_too_many(self) -> bool:
    """Whether `probabilities` would take long for each poster."""
    num_combinations, num_genres = self.members.shape
    return num_combinations * num_genres**2 > _MAX_SIZE

  def to_dict(self) -> dict[str, Any]:
    """Plain values that JSON can hold."""
    return {
      'members': [np.flatnonzero(row).tolist() for row in self.members],
      'log_lift': self.log_lift.tolist(),
      'sharpness': self.sharpness,
      'weight': self.weight,
    }


def _in_blocks(function, rows):
  blocks = (rows[i : i + _BLOCK] for i in range(0, len(rows), _BLOCK))
  return np.concatenate([function(block) for block in blocks])


def from_dict(stored: Mapping[str, Any], *, num_genres: int) -> Combinations:
  """The inverse of `Combinations.to_dict`.

  Raises:
    ValueError: it says what cannot be, as it may of a stranger's.
  """
  found = Combinations(
    _to_members(stored['members'], num_genres),
    np.asarray(stored['log_lift'], float),
    float(stored['sharpness']),
    float(stored['weight']),
  )
  numbers = (*found.log_lift, found.sharpness, found.weight)
  if (
    found.log_lift.shape != (len(found.members),)
    or not len(found.members)
    or not np.isfinite(numbers).all()
    or found.sharpness <= 0
    or found.weight < 0
  ):
    raise ValueError(
      'the combinations of genres are not at least one, each with a finite'
      ' log_lift, and a sharpness above 0 and a weight of at least 0'
    )
  return found


def from_counts(
  counts: Sequence[combination_counts.Count],
  *,
  num_genres: int,
  sharpness: float,
  weight: float,
) -> Combinations:
  """Combinations as films have them.

  Args:
    counts: of the films; at least one.
    num_genres: L.
    sharpness: see `Combinations`.
    weight: see `Combinations`.
  """
  members = _to_members([genres for genres, _ in counts], num_genres)
  films = np.array([count for _, count in counts], float)
  share = (films @ members) / films.sum()
  with np.errstate(divide='ignore'):  # log(0) of a genre that none or all have.
    present, absent = np.log(share), np.log1p(-share)
  independent = np.where(members, present, absent).sum(axis=1)
  return Combinations(
    members, np.log(films / films.sum()) - independent, sharpness, weight
  )


def _to_members(indices, num_genres):
  if len(indices) > combination_counts.MAX_COUNTS:
    raise ValueError(
      f'{len(indices):,} are too many combinations of genres; at most'
      f' {combination_counts.MAX_COUNTS:,} are used'
    )
  members = np.zeros((len(indices), num_genres), bool)
  for row, of_one in zip(members, indices, strict=True):
    if not all(0 <= index < num_genres for index in of_one):
      raise ValueError(f'{of_one!r:.100} are no genres, of {num_genres}')
    row[list(of_one)] = True
  return members
