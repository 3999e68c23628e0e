"""A validated sweep file; configs/sweeps/default.py documents its keys."""

from collections.abc import Iterator, Mapping, Sequence
import dataclasses
import importlib.util
import json
import math
import pathlib
from typing import Any

import ml_collections
import optuna

import configs
from genre_flax import config as config_lib
from genre_flax.runtime import custom
from genre_flax.runtime import errors

_CHOICES = {
  'sampler': ('grid', 'random', 'tpe'),
  'pruner.name': ('none', 'asha', 'hyperband'),
  'objective.direction': ('maximize', 'minimize'),
}


@dataclasses.dataclass(frozen=True)
class Dimension:
  """A key of the search space: an entry of config.space."""

  key: str
  values: Sequence[Any] = ()
  low: float = math.nan
  high: float = math.nan
  log: bool = False
  when: Mapping[str, Any] = dataclasses.field(default_factory=dict)
  along: Mapping[str, Sequence[Any]] = dataclasses.field(default_factory=dict)

  def is_active(self, chosen: Mapping[str, Any]) -> bool:
    """Whether it is sampled, given the values of earlier keys."""
    return all(chosen.get(key) == value for key, value in self.when.items())

  def options(self) -> dict[str, dict[str, Any]]:
    """The values of all its keys, by the text of its own value."""
    columns = {self.key: self.values, **self.along}
    return {
      as_text(value): {key: column[n] for key, column in columns.items()}
      for n, value in enumerate(self.values)
    }

  def suggest(self, trial: optuna.Trial) -> dict[str, Any]:
    """Samples the values of its keys, or returns those that a trial has."""
    if self.values:  # As text, since Optuna stores no tuples.
      options = self.options()
      return options[trial.suggest_categorical(self.key, list(options))]
    is_int = isinstance(self.low, int) and isinstance(self.high, int)
    suggest = trial.suggest_int if is_int else trial.suggest_float
    return {self.key: suggest(self.key, self.low, self.high, log=self.log)}

  def faults(self) -> Iterator[str]:
    """Yields the faults of the entry."""
    num_values = len(self.values)
    is_range = self.low < self.high and (self.low > 0 or not self.log)
    has_low_or_high = self.low == self.low or self.high == self.high
    if has_low_or_high if num_values else not is_range:
      yield (
        f"{self.key} needs either 'values', or 'low' below 'high', and above 0"
        " with 'log'"
      )
    for key, values in self.along.items():
      if not isinstance(values, (tuple, list)) or len(values) != num_values:
        yield f'{self.key} needs {num_values} values of {key}; got {values!r}'


@dataclasses.dataclass(frozen=True)
class Sweep:
  """A validated sweep file; `flags` are those of all trainings."""

  config: Mapping[str, Any]
  space: Sequence[Dimension]
  num_trials: int
  flags: Sequence[str]

  def best(self, values: Sequence[float]) -> float:
    """The best of the values of the objective, at least one."""
    is_max = self.config['objective']['direction'] == 'maximize'
    return max(values) if is_max else min(values)

  def suggest(self, trial: optuna.Trial) -> list[str]:
    """The flags of a trial's training; values that it lacks are sampled."""
    chosen: dict[str, Any] = {}
    for dimension in self.space:
      if dimension.is_active(chosen):
        chosen |= dimension.suggest(trial)
    return [
      *self.flags,
      *(f'--config.{key}={as_text(value)}' for key, value in chosen.items()),
    ]


def as_text(value: Any) -> str:
  """A value as text of a flag."""
  return value if isinstance(value, str) else repr(value)


def grid(space: Sequence[Dimension]) -> list[dict[str, str]]:
  """All combinations, as text by key; the last key changes fastest."""
  points: list[tuple[dict[str, str], dict[str, Any]]] = [({}, {})]
  for dimension in space:
    extended = []
    for texts, chosen in points:
      if not dimension.is_active(chosen):
        extended.append((texts, chosen))
        continue
      for text, values in dimension.options().items():
        extended.append(({**texts, dimension.key: text}, chosen | values))
    points = extended
  return [texts for texts, _ in points]


def read(
  config: ml_collections.ConfigDict, extra_flags: Sequence[str] = ()
) -> Sweep:
  """Validates a sweep file, and its keys against the training config.

  Args:
    config: with the keys of configs/sweeps/default.py.
    extra_flags: of all trainings, after those of the file.

  Raises:
    InputError: lists all faults.
  """
  space, faults = _read_space(config.space)
  # Trials are compared on the validation split.
  flags = ['--config.dataset.test_split=', *config.flags, *extra_flags]
  base = resolve(config.base)
  searched = [key for d in space for key in (d.key, *d.along)]
  faults += _missing_keys(base, searched, flags)
  for key, choices in _CHOICES.items():
    if (value := config_lib.get(config, key)) not in choices:
      faults.append(f'config.{key}={value!r}: must be one of {choices}')
  pruner, num_trials = config.pruner, config.num_trials
  if pruner.min_evaluations < 1 or pruner.reduction_factor < 2:
    faults.append(
      f'config.pruner: min_evaluations={pruner.min_evaluations} must be at'
      f' least 1, reduction_factor={pruner.reduction_factor} at least 2'
    )
  if config.sampler == 'grid':
    if ranges := [d.key for d in space if not d.values]:
      faults.append(f"config.sampler='grid' needs 'values' of {ranges}")
    size = 1 if faults else len(grid(space))
    num_trials = size if num_trials is None else min(num_trials, size)
  if not num_trials or num_trials < 1 or not config.seeds:
    faults.append(
      f'config.num_trials={num_trials} must be at least 1, and'
      f' config.seeds={config.seeds} have at least one seed'
    )
  if faults:
    raise errors.InputError('\n  '.join(['Invalid sweep:', *faults]))
  plain = json.loads(json.dumps(config.to_dict()))
  return Sweep(plain, space, num_trials, [f'--config={base}', *flags])


def _read_space(entries) -> tuple[list[Dimension], list[str]]:
  """The dimensions of config.space, and their faults."""
  space, faults = [], [] if entries else ['no keys']
  known = {field.name for field in dataclasses.fields(Dimension)}
  earlier: set[str] = set()
  for entry in map(dict, entries):
    if 'key' not in entry or entry.keys() - known:
      faults.append(
        f"{entry} must have 'key', and only keys of {sorted(known)}"
      )
      continue
    dimension = Dimension(**entry)
    keys = {dimension.key, *dimension.along}
    faults += dimension.faults()
    faults += [f'{key} appears twice' for key in sorted(keys & earlier)]
    faults += [
      f"{key}, in 'when' of {dimension.key}, must precede it"
      for key in sorted({*dimension.when} - earlier)
    ]
    earlier |= keys
    space.append(dimension)
  return space, [f'config.space: {fault}' for fault in faults]


def resolve(path: str) -> str:
  """The path of a config: here, else in the installed package `configs`."""
  root = pathlib.Path(next(iter(configs.__path__))).parent
  file = path.partition(':')[0]
  is_installed = not pathlib.Path(file).exists() and (root / file).exists()
  return str(root / path) if is_installed else path


def _missing_keys(base, searched, flags):
  """Keys that the training config lacks, or why it cannot be read."""
  file, _, argument = base.partition(':')
  try:
    if file.endswith('.json'):
      config = config_lib.load(file)
    else:
      spec = importlib.util.spec_from_file_location('base_config', file)
      module = importlib.util.module_from_spec(spec)
      spec.loader.exec_module(module)
      config = module.get_config(*filter(None, [argument]))
  except (OSError, AttributeError, ImportError, SyntaxError, TypeError) as e:
    return [f'config.base={base!r} cannot be read: {e}']
  overridden = [
    flag.removeprefix('--config.').partition('=')[0]
    for flag in flags
    if flag.startswith('--config.')
  ]
  keys = config_lib.flatten(config.to_dict()).keys()
  return [
    f'{base} has no key {key!r}'
    for key in [*searched, *overridden]
    if key not in keys and key.rpartition('.')[0] not in custom.OPTIONS.values()
  ]
