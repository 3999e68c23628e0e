"""What a sweep searches: its file, checked, and the study that Optuna keeps."""

from collections.abc import Callable, Iterator, Mapping, Sequence
import dataclasses
import importlib.util
import json
import math
import pathlib
from typing import Any

import ml_collections
import optuna

from launch.runtime import errors

SAMPLERS = ('grid', 'random', 'tpe')
PRUNERS = ('none', 'asha', 'hyperband')
_SWEEP_ATTRIBUTE = 'sweep'
# A sweep that goes on may be given more trials.
_FREE_KEYS = ('num_trials',)


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
  """

  key: str
  values: tuple[Any, ...] = ()
  low: float = math.nan
  high: float = math.nan
  log: bool = False
  when: Mapping[str, Any] = dataclasses.field(default_factory=dict)

  def is_active(self, chosen: Mapping[str, Any]) -> bool:
    """Whether it is drawn after these values."""
    return all(chosen.get(key) == value for key, value in self.when.items())

  def suggest(self, trial: optuna.Trial) -> Any:
    """Draws a value."""
    if not self.values:
      if isinstance(self.low, int) and isinstance(self.high, int):
        return trial.suggest_int(self.key, self.low, self.high, log=self.log)
      return trial.suggest_float(self.key, self.low, self.high, log=self.log)
    by_text = {as_text(value): value for value in self.values}
    return by_text[trial.suggest_categorical(self.key, list(by_text))]


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
  space: tuple[Dimension, ...]
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
        chosen[dimension.key] = dimension.suggest(trial)
    return chosen


def as_text(value: Any) -> str:
  """A value as it stands in a flag."""
  return value if isinstance(value, str) else repr(value)


def as_flags(chosen: Mapping[str, Any]) -> list[str]:
  """The flags of the training binary that set these values."""
  return [f'--config.{key}={as_text(value)}' for key, value in chosen.items()]


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
  space = tuple(_read_dimension(entry, faults) for entry in config.space)
  if not space:
    faults.append('config.space is empty: name at least one key to search')
  _check_base(config.base, space, faults)
  _check_conditions(space, faults)
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
  elif config.sampler == 'grid' and num_trials is None:
    num_trials = len(list(grid(space)))
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


_DIRECTIONS = ('maximize', 'minimize')


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
      yield from extend({**chosen, first.key: value}, others)

  yield from extend({}, list(space))


def open_study(
  sweep: Sweep, *, name: str, storage: optuna.storages.BaseStorage
) -> optuna.Study:
  """Opens the study of a sweep, or makes it with the grid's trials waiting.

  Args:
    sweep: of `read_sweep`.
    name: of the study in its storage.
    storage: that keeps it.

  Returns:
    The study, to be asked by one process at a time.

  Raises:
    InputError: the storage has another sweep under this name.
  """
  study = optuna.create_study(
    study_name=name,
    storage=storage,
    direction=sweep.objective.direction,
    sampler=_make_sampler(sweep),
    pruner=_make_pruner(sweep.pruner),
    load_if_exists=True,
  )
  before = study.user_attrs.get(_SWEEP_ATTRIBUTE)
  now = dict(sweep.config)
  if before is None:
    study.set_user_attr(_SWEEP_ATTRIBUTE, now)
    if sweep.sampler == 'grid':
      for chosen in grid(sweep.space):
        study.enqueue_trial({k: as_text(v) for k, v in chosen.items()})
    return study
  changed = [
    f'{key}: {before.get(key)} there, {now.get(key)} now'
    for key in sorted(before.keys() | now.keys())
    if key not in _FREE_KEYS and before.get(key) != now.get(key)
  ]
  if changed:
    raise errors.InputError(
      '\n  '.join(['The sweep was begun with another file:', *changed])
      + '\nGive it the file it was begun with, or choose another --sweep_dir.'
    )
  return study


def _make_sampler(sweep: Sweep) -> optuna.samplers.BaseSampler:
  if sweep.sampler == 'tpe':
    # Trials that still run count as bad, or all workers would try one place.
    return optuna.samplers.TPESampler(
      seed=sweep.sampler_seed, constant_liar=True
    )
  # A grid is queued whole; nothing is left to be drawn.
  return optuna.samplers.RandomSampler(seed=sweep.sampler_seed)


def _make_pruner(pruner: Mapping[str, Any]) -> optuna.pruners.BasePruner:
  options = {
    'min_resource': pruner['min_evaluations'],
    'reduction_factor': pruner['reduction_factor'],
  }
  if pruner['name'] == 'asha':
    return optuna.pruners.SuccessiveHalvingPruner(**options)
  if pruner['name'] == 'hyperband':
    return optuna.pruners.HyperbandPruner(**options)
  return optuna.pruners.NopPruner()


def _read_dimension(entry: Mapping[str, Any], faults: list[str]) -> Dimension:
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
  return dimension


def _check_conditions(space: Sequence[Dimension], faults: list[str]) -> None:
  earlier: set[str] = set()
  for dimension in space:
    if dimension.key in earlier:
      faults.append(f'config.space: {dimension.key} stands twice')
    unknown = sorted(set(dimension.when) - earlier)
    if unknown:
      faults.append(
        f"config.space: 'when' of {dimension.key} names {unknown}, which must"
        ' stand before it'
      )
    earlier.add(dimension.key)


def _check_base(
  base: str, space: Sequence[Dimension], faults: list[str]
) -> None:
  """Checks that the base config has the keys, so that no trial fails by it."""
  try:
    config = _load(base)()
  except (OSError, AttributeError, ImportError, SyntaxError) as e:
    faults.append(f'config.base={base!r} cannot be read: {e}')
    return
  for dimension in space:
    value = config
    for part in dimension.key.split('.'):
      if not isinstance(value, ml_collections.ConfigDict) or part not in value:
        faults.append(f'config.space: {base} has no key {dimension.key!r}')
        break
      value = value[part]


def _load(path: str) -> Callable[[], ml_collections.ConfigDict]:
  """The function get_config of a config file."""
  if not pathlib.Path(path).is_file():
    raise FileNotFoundError(f'there is no file {path}')
  spec = importlib.util.spec_from_file_location('base_config', path)
  module = importlib.util.module_from_spec(spec)
  spec.loader.exec_module(module)
  return module.get_config
