"""Comparison of groups of runs on the same posters, from their predictions."""

from collections.abc import Iterable, Mapping, Sequence
import json
import shlex
from typing import Any

from etils import epath
import numpy as np
import pandas as pd

from genre_flax import config as config_lib
from genre_flax.checkpoints import checkpointer as checkpointer_lib
from genre_flax.evaluation import bootstrap
from genre_flax.evaluation import metrics
from genre_flax.evaluation import stored_predictions
from genre_flax.runtime import errors

BASELINE = 'constant baseline'
_Predictions = stored_predictions.StoredPredictions


def compare(
  groups: Mapping[str, Sequence[epath.PathLike]],
  *,
  split: str = 'test',
  names: Sequence[str] | None = None,
  num_samples: int = 1000,
) -> pd.DataFrame:
  """Compares the best checkpoints of groups of runs with the first group.

  The predictions are those that trainings and `genre_flax.top3` store.

  Args:
    groups: at least one workdir for each name, such as the seeds of a method.
    split: its name.
    names: of metrics; None for all, at operating points where a metric has one.
    num_samples: resamples of the paired bootstrap over posters and runs; 0 for
      no intervals.

  Returns:
    A row per group, and one of the constant baseline of the first group. The
    columns are 'runs'; 'posters'; each metric, the mean over the runs; with the
    suffix _std the sample standard deviation over the runs; with _difference,
    _low and _high the difference to the first group and its 95 % interval; and
    the config keys that differ, with the prefix 'config.'.

  Raises:
    InputError: a run is not evaluated on the split, the posters, labels or
      genres of the runs differ, or a metric is unknown.
  """
  predictions = read_predictions(
    [workdir for group in groups.values() for workdir in group], split
  )
  any_run = next(iter(predictions.values()))
  known = any_run.inputs.names
  if unknown := sorted({*(names or ())} - {*known}):
    raise errors.InputError(f'No metrics {unknown}; choose from {[*known]}.')
  names = names or metrics.reported(any_run.inputs.fitted)
  configs = differing_configs(groups)
  rows: dict[str, dict[str, Any]] = {}
  first = None
  for group, workdirs in groups.items():
    samples = [
      bootstrap.samples(
        predictions[str(workdir)].inputs, num_samples=num_samples, names=names
      )
      for workdir in workdirs
    ]
    rows[group] = {
      'runs': len(workdirs),
      'posters': len(any_run.ids),
      **_metric_columns(samples, first),
      **configs[group],
    }
    first = first or samples
  baselines = [
    predictions[str(workdir)].constant_baseline
    for workdir in next(iter(groups.values()))
  ]
  rows[BASELINE] = {
    # None, for an undefined value, becomes NaN.
    name: np.array([each.get(name) for each in baselines], float).mean()
    for name in names
  }
  table = pd.DataFrame.from_dict(rows, orient='index').rename_axis('group')
  return table.astype({'runs': 'Int64', 'posters': 'Int64'})


def _metric_columns(samples, first) -> dict[str, float]:
  """The metrics of a group, of `bootstrap.samples` of its runs."""
  columns = {}
  for name in samples[0]:
    values = np.array([run[name][0] for run in samples])
    columns[name] = values.mean()
    columns[f'{name}_std'] = values.std(ddof=1) if len(values) > 1 else np.nan
  if first is not None:
    for name, estimate in bootstrap.differences(samples, first).items():
      columns[f'{name}_difference'] = estimate.value
      columns[f'{name}_low'] = estimate.low
      columns[f'{name}_high'] = estimate.high
  return columns


def read_predictions(
  workdirs: Iterable[epath.PathLike], split: str
) -> dict[str, _Predictions]:
  """The predictions of the best checkpoints of some runs on a split.

  Raises:
    InputError: a run is not evaluated on the split, or the posters, labels or
      genres of the runs differ.
  """
  found = {
    str(workdir): _read(epath.Path(workdir), split) for workdir in workdirs
  }
  missing = [workdir for workdir, each in found.items() if each is None]
  if missing:
    commands = [
      f'python -m genre_flax.top3 --model={shlex.quote(workdir)}'
      f' --split={split}'
      for workdir in missing
    ]
    raise errors.InputError(
      f'{len(missing)} of {len(found)} runs have no predictions of their best'
      f' checkpoint on the split {split}. Evaluate them with\n  '
      + '\n  '.join(commands)
    )
  check_same_posters(list(found.values()))
  return found


def check_same_posters(splits: Sequence[Any]) -> None:
  """Checks that splits have the same `genres`, `ids` and `labels`.

  Raises:
    InputError: they differ.
  """
  first = splits[0]
  for other in splits[1:]:
    for name in ('genres', 'ids', 'labels'):
      if not np.array_equal(getattr(first, name), getattr(other, name)):
        raise errors.InputError(
          f'The runs cannot be compared on these splits: the {name} of the'
          ' posters differ. Evaluate all runs on one dataset, with --data_dir.'
        )


def _read(workdir: epath.Path, split: str) -> _Predictions | None:
  with checkpointer_lib.Checkpointer(workdir, read_only=True) as checkpointer:
    best = checkpointer.find_step('best')
  for folder in (workdir, workdir / 'eval' / f'{split}_{best}'):
    found = stored_predictions.read(folder)
    if found is not None and (found.split, found.step) == (split, str(best)):
      return found
  return None


def differing_configs(
  groups: Mapping[str, Sequence[epath.PathLike]],
) -> dict[str, dict[str, str]]:
  """{'config.KEY': values} of the keys, but the seed, that differ by group.

  Different values within a group are joined by ', '.

  Raises:
    InputError: a config.json is missing or invalid.
  """
  table = {}
  for group, workdirs in groups.items():
    configs = [read_config(epath.Path(workdir)) for workdir in workdirs]
    table[group] = {
      key: ', '.join(sorted({repr(config.get(key)) for config in configs}))
      for key in set().union(*configs) - {'seed'}
    }
  differing = [
    key
    for key in sorted(set().union(*table.values()))
    if len({values.get(key) for values in table.values()}) > 1
  ]
  return {
    group: {f'config.{key}': values.get(key, 'None') for key in differing}
    for group, values in table.items()
  }


def read_config(workdir: epath.Path) -> dict[str, Any]:
  """The config.json of a run, as one dict with dotted keys.

  Raises:
    InputError: it is missing or invalid.
  """
  path = workdir / 'config.json'
  try:
    return config_lib.flatten(json.loads(path.read_bytes()))
  except (AttributeError, OSError, ValueError) as e:
    raise errors.InputError(
      f'{path} cannot be read: {e}. Is {workdir} the --workdir of a training?'
    ) from e
