"""A sweep file: its settings, and the grid or function of its search space."""

from collections.abc import Callable, Mapping, Sequence
import dataclasses
import importlib.util
import inspect
import itertools
import json
from typing import Any

import ml_collections
import numpy as np
import optuna

from configs.sweeps import default
from genre_flax import config as config_lib
from genre_flax import config_files
from genre_flax.runtime import errors

_SAMPLERS = ('grid', 'random', 'tpe')
_PRUNERS = {
  'none': lambda **_: optuna.pruners.NopPruner(),
  'asha': optuna.pruners.SuccessiveHalvingPruner,
  'hyperband': optuna.pruners.HyperbandPruner,
}
# Proposals whose configs are checked before the first training.
_MAX_PROPOSALS = 200


@dataclasses.dataclass(frozen=True)
class Sweep:
  """A validated sweep file; configs/sweeps/default.py documents its keys.

  Attributes:
    config: its settings.
    suggest: returns the overrides of a trial by config key.
    points: combinations of the grid, as parameters of Optuna.
    space: text of the search space.
    num_trials: failed ones included.
    flags: of all trainings.
  """

  config: Mapping[str, Any]
  suggest: Callable[[optuna.trial.BaseTrial], Mapping[str, Any]]
  points: Sequence[Mapping[str, str]]
  space: str
  num_trials: int
  flags: Sequence[str]

  def best(self, values: Sequence[float]) -> float:
    """The best of the values of the objective, at least one."""
    is_max = self.config['objective']['direction'] == 'maximize'
    return max(values) if is_max else min(values)

  def trial_flags(self, trial: optuna.trial.BaseTrial) -> list[str]:
    """The flags of a trial's training; parameters it lacks are sampled."""
    overrides = self.suggest(trial).items()
    return [*self.flags, *(f'--config.{k}={_as_text(v)}' for k, v in overrides)]

  def sampler(self, number: int) -> optuna.samplers.BaseSampler:
    """The sampler of a trial; its seed depends on the trial's number alone."""
    entropy = [self.config['sampler_seed'], number]
    seed = int(np.random.SeedSequence(entropy).generate_state(1)[0])
    if self.config['sampler'] == 'tpe':
      # Running trials count as bad, so that workers try different values.
      return optuna.samplers.TPESampler(seed=seed, constant_liar=True)
    return optuna.samplers.RandomSampler(seed=seed)

  def create_study(self, **options: Any) -> optuna.Study:
    """Creates or opens a study with the direction and the pruner."""
    pruner = self.config['pruner']
    options['pruner'] = _PRUNERS[pruner['name']](
      min_resource=pruner['min_evaluations'],
      reduction_factor=pruner['reduction_factor'],
    )
    direction = self.config['objective']['direction']
    return optuna.create_study(
      direction=direction, load_if_exists=True, **options
    )

  def proposals(self) -> list[list[str]]:
    """The flags of the trials; for TPE, which has no scores, random ones."""
    study, found = self.create_study(), []
    for number in range(min(self.num_trials, _MAX_PROPOSALS)):
      study.sampler = optuna.samplers.RandomSampler(seed=number)
      if self.config['sampler'] == 'random':
        study.sampler = self.sampler(number)
      elif self.config['sampler'] == 'grid':
        study.enqueue_trial(self.points[number])
      found.append(self.trial_flags(study.ask()))
    return found


def read(
  path: str, config: ml_collections.ConfigDict, extra_flags: Sequence[str] = ()
) -> Sweep:
  """Reads and validates a sweep file, except for the configs of its trials.

  Raises:
    InputError: it is invalid, or its function fails.
  """
  spec = importlib.util.spec_from_file_location('sweep_file', path)
  module = importlib.util.module_from_spec(spec)
  spec.loader.exec_module(module)
  grid, suggest = (getattr(module, n, None) for n in ('GRID', 'suggest'))
  columns = _columns(grid or {})
  texts = itertools.product(*columns.values())
  points = [dict(zip(columns, text, strict=True)) for text in texts]
  num_trials = config.num_trials
  if config.sampler == 'grid':
    num_trials = min(num_trials or len(points), len(points))
  requirements = {
    f'either GRID or a function suggest(trial) in {path}': bool(grid)
    != bool(suggest),
    "GRID for config.sampler='grid'": grid or config.sampler != 'grid',
    f'config.sampler of {_SAMPLERS}': config.sampler in _SAMPLERS,
    f'config.pruner.name of {list(_PRUNERS)}': config.pruner.name in _PRUNERS,
    'config.num_trials of at least 1': num_trials and num_trials > 0,
    'config.seeds with at least one seed': config.seeds,
  }
  unmet = [text for text, is_met in requirements.items() if not is_met]
  keys = config_lib.flatten(config.to_dict())
  unmet += config_lib.key_faults(keys, default.get_config()).values()
  if unmet:
    raise errors.InputError('\n  '.join(['Invalid sweep; expected', *unmet]))
  # Trials are compared on the validation split.
  base = [
    f'--config={config_files.find(config.base)}',
    '--config.dataset.test_split=',
  ]
  sweep = Sweep(
    config=json.loads(json.dumps(config.to_dict())),
    suggest=suggest or (lambda trial: _suggest(trial, columns)),
    points=points,
    space=inspect.getsource(suggest) if suggest else repr(grid),
    num_trials=num_trials,
    flags=[*base, *config.flags, *extra_flags],
  )
  try:
    sweep.proposals()
  except Exception as e:  # Of the user's code, or of Optuna about settings.
    raise errors.InputError(f'Invalid sweep {path}: {e!r}') from e
  return sweep


def _as_text(value):
  return value if isinstance(value, str) else repr(value)


def _columns(grid):
  """Overrides by parameter, and by the text of its value."""
  columns = {}
  for keys, values in grid.items():
    names = (keys,) if isinstance(keys, str) else keys
    try:
      rows = [(v,) if isinstance(keys, str) else tuple(v) for v in values]
      columns[', '.join(names)] = {
        ', '.join(map(_as_text, row)): dict(zip(names, row, strict=True))
        for row in [*rows, rows[0]]
      }
    except (IndexError, TypeError, ValueError) as e:
      raise errors.InputError(
        f'GRID[{keys!r}]={values!r}: expected values of the key, or tuples with'
        ' a value of each key'
      ) from e
  return columns


def _suggest(trial, columns):
  overrides = {}
  for name, options in columns.items():
    overrides |= options[trial.suggest_categorical(name, list(options))]
  return overrides
