"""The study that Optuna keeps of a sweep."""

from collections.abc import Mapping
from typing import Any

import optuna

from genre_flax.runtime import errors
from launch.sweeps import search_space
from launch.sweeps import sweep_file

_SWEEP_ATTRIBUTE = 'sweep'
# A sweep that goes on may be given more trials.
_FREE_KEYS = ('num_trials',)


def open_study(
  sweep: sweep_file.Sweep, *, name: str, storage: optuna.storages.BaseStorage
) -> optuna.Study:
  """Opens the study of a sweep, or makes it with the grid's trials waiting.

  Args:
    sweep: of `sweep_file.read_sweep`.
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
    if sweep.sampler == 'grid':
      for chosen in search_space.grid(sweep.space):
        study.enqueue_trial(
          {k: search_space.as_text(v) for k, v in chosen.items()},
          skip_if_exists=True,
        )
    # Last: it says that the grid is queued whole.
    study.set_user_attr(_SWEEP_ATTRIBUTE, now)
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


def _make_sampler(sweep: sweep_file.Sweep) -> optuna.samplers.BaseSampler:
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
