"""The keys that a sweep searches, and the values they take."""

from collections.abc import Iterator, Mapping, Sequence
import dataclasses
import math
from typing import Any

import optuna


@dataclasses.dataclass(frozen=True)
class Dimension:
  """A key of the training config that is searched.

  Attributes:
    key: its path, such as 'optimizer.learning_rate'.
    values: to choose from; () where `low` and `high` hold.
    low: least number.
    high: greatest number.
    log: draw on a logarithmic scale.
    when: values of earlier keys with which alone this one is drawn.
    along: other keys that change with this one, each with a value for each of
      `values`.
  """

  key: str
  values: tuple[Any, ...] = ()
  low: float = math.nan
  high: float = math.nan
  log: bool = False
  when: Mapping[str, Any] = dataclasses.field(default_factory=dict)
  along: Mapping[str, Sequence[Any]] = dataclasses.field(default_factory=dict)

  def is_active(self, chosen: Mapping[str, Any]) -> bool:
    """Whether it is drawn after these values."""
    return all(chosen.get(key) == value for key, value in self.when.items())

  @property
  def keys(self) -> tuple[str, ...]:
    """All keys that it sets."""
    return (self.key, *self.along)

  def assign(self, value: Any) -> dict[str, Any]:
    """The values of all its keys, by key, where its own has this value."""
    others = {
      key: values[self.values.index(value)]
      for key, values in self.along.items()
    }
    return {self.key: value, **others}

  def suggest(self, trial: optuna.Trial) -> Any:
    """Draws a value."""
    if not self.values:
      if isinstance(self.low, int) and isinstance(self.high, int):
        return trial.suggest_int(self.key, self.low, self.high, log=self.log)
      return trial.suggest_float(self.key, self.low, self.high, log=self.log)
    by_text = {as_text(value): value for value in self.values}
    return by_text[trial.suggest_categorical(self.key, list(by_text))]


def as_text(value: Any) -> str:
  """A value as it stands in a flag."""
  return value if isinstance(value, str) else repr(value)


def as_flags(chosen: Mapping[str, Any]) -> list[str]:
  """The flags of the training binary that set these values."""
  return [f'--config.{key}={as_text(value)}' for key, value in chosen.items()]


def grid(space: Sequence[Dimension]) -> Iterator[dict[str, Any]]:
  """All combinations of the values, without keys that a condition leaves out.

  Args:
    space: of dimensions with values.

  Yields:
    The values by key; the last key changes fastest.
  """

  def extend(chosen, rest):
    if not rest:
      yield chosen
      return
    first, *others = rest
    if not first.is_active(chosen):
      yield from extend(chosen, others)
      return
    for value in first.values:
      yield from extend({**chosen, **first.assign(value)}, others)

  yield from extend({}, list(space))


def read_dimension(entry: Mapping[str, Any], faults: list[str]) -> Dimension:
  """One entry of config.space; what is wrong with it is added to `faults`."""
  entry = dict(entry)
  known = {field.name for field in dataclasses.fields(Dimension)}
  key = entry.get('key')
  if not isinstance(key, str) or not key:
    faults.append(f"config.space: {entry} has no 'key'")
    return Dimension('')
  if entry.keys() - known:
    faults.append(
      f'config.space: {key} has {sorted(entry.keys() - known)}, expected some'
      f' of {sorted(known)}'
    )
    return Dimension(key)
  dimension = Dimension(**{**entry, 'values': tuple(entry.get('values', ()))})
  low, high = dimension.low, dimension.high
  if dimension.values and {'low', 'high', 'log'} & entry.keys():
    faults.append(f"config.space: {key} has 'values' and a range; give one")
  elif not dimension.values and not low < high:
    faults.append(
      f"config.space: {key} needs 'values', or 'low' below 'high'; got {entry}"
    )
  elif dimension.log and not low > 0:
    faults.append(f'config.space: {key} is logarithmic; low={low} must be > 0')
  for other, values in dimension.along.items():
    count = len(dimension.values)
    if not isinstance(values, (tuple, list)) or len(values) != count:
      faults.append(
        f'config.space: {other}, along with {key}, needs a tuple of {count},'
        f' a value for each of its own; got {values!r}'
      )
      return Dimension(key)
  return dimension


def check_conditions(space: Sequence[Dimension], faults: list[str]) -> None:
  """Adds to `faults` the conditions on keys that do not stand before."""
  earlier: set[str] = set()
  for dimension in space:
    faults.extend(
      f'config.space: {key} stands twice'
      for key in dimension.keys
      if key in earlier
    )
    unknown = sorted(set(dimension.when) - earlier)
    if unknown:
      faults.append(
        f"config.space: 'when' of {dimension.key} names {unknown}, which must"
        ' stand before it'
      )
    earlier.update(dimension.keys)
