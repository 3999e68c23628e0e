"""A sweep file, checked; configs/sweeps/default.py explains its keys."""

from collections.abc import Mapping, Sequence
import dataclasses
import json
from typing import Any

import ml_collections
import optuna

from genre_flax.runtime import custom
from genre_flax.runtime import errors
from launch.runtime import config_file
from launch.sweeps import search_space

SAMPLERS = ('grid', 'random', 'tpe')
PRUNERS = ('none', 'asha', 'hyperband')
_DIRECTIONS = ('maximize', 'minimize')


@dataclasses.dataclass(frozen=True)
class Objective:
  """What a trial is judged by: a metric of a split, and which way is better."""

  metric: str
  split: str
  direction: str

  def best(self, values: Sequence[float]) -> float:
    """The best of some values, at least one."""
    return max(values) if self.direction == 'maximize' else min(values)


@dataclasses.dataclass(frozen=True)
class Sweep:
  """A sweep file that was checked; see configs/sweeps/default.py for each."""

  base: str
  flags: tuple[str, ...]
  space: tuple[search_space.Dimension, ...]
  objective: Objective
  sampler: str
  sampler_seed: int
  num_trials: int
  seeds: tuple[int, ...]
  pruner: Mapping[str, Any]
  config: Mapping[str, Any]

  def suggest(self, trial: optuna.Trial) -> dict[str, Any]:
    """Draws the values of a trial; of one that goes on, those it had."""
    chosen = {}
    for dimension in self.space:
      if dimension.is_active(chosen):
        chosen |= dimension.assign(dimension.suggest(trial))
    return chosen


def read_sweep(config: ml_collections.ConfigDict) -> Sweep:
  """Checks a sweep file, and the keys it searches against its base config.

  Args:
    config: with the keys of configs/sweeps/default.py.

  Returns:
    The sweep.

  Raises:
    InputError: something in it cannot be searched; all faults are named.
  """
  faults: list[str] = []
  space = tuple(
    search_space.read_dimension(entry, faults) for entry in config.space
  )
  if not space:
    faults.append('config.space is empty: name at least one key to search')
  _check_base(config.base, space, faults)
  search_space.check_conditions(space, faults)
  for key, value, known in (
    ('sampler', config.sampler, SAMPLERS),
    ('pruner.name', config.pruner.name, PRUNERS),
    ('objective.direction', config.objective.direction, _DIRECTIONS),
  ):
    if value not in known:
      faults.append(f'config.{key}={value!r}: must be one of {known}')
  if not config.seeds:
    faults.append('config.seeds is empty: give at least one, such as (0,)')
  if config.pruner.min_evaluations < 1 or config.pruner.reduction_factor < 2:
    faults.append(
      'config.pruner.min_evaluations must be at least 1, and'
      ' config.pruner.reduction_factor at least 2'
    )
  num_trials = config.num_trials
  ranges = [dimension.key for dimension in space if not dimension.values]
  if config.sampler == 'grid' and ranges:
    faults.append(
      f"config.sampler='grid' takes every combination, but {ranges} are ranges:"
      " give them 'values', or set config.sampler to 'random' or 'tpe'"
    )
  elif config.sampler == 'grid':
    size = len(list(search_space.grid(space)))
    num_trials = size if num_trials is None else min(num_trials, size)
  if num_trials is None or num_trials < 1:
    faults.append(
      f'config.num_trials={num_trials}: how many trials are there to be?'
    )
  if faults:
    raise errors.InputError('\n  '.join(['Invalid sweep:', *faults]))
  return Sweep(
    base=config.base,
    flags=tuple(config.flags),
    space=space,
    objective=Objective(**config.objective.to_dict()),
    sampler=config.sampler,
    sampler_seed=config.sampler_seed,
    num_trials=num_trials,
    seeds=tuple(config.seeds),
    pruner=config.pruner.to_dict(),
    config=json.loads(json.dumps(config.to_dict())),
  )


def _check_base(
  base: str, space: Sequence[search_space.Dimension], faults: list[str]
) -> None:
  """Checks that the base config has the keys, so that no trial fails by it."""
  try:
    config = config_file.load(base)
  except (OSError, AttributeError, ImportError, SyntaxError) as e:
    faults.append(f'config.base={base!r} cannot be read: {e}')
    return
  for key in (key for dimension in space for key in dimension.keys):
    if key.rpartition('.')[0] in custom.OPTIONS.values():
      continue
    value = config
    for part in key.split('.'):
      if not isinstance(value, ml_collections.ConfigDict) or part not in value:
        faults.append(f'config.space: {base} has no key {key!r}')
        break
      value = value[part]
