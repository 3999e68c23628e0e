"""Results of a sweep: a table, the command of the best trial, and plots."""

from collections.abc import Iterator
import logging
import shlex
from typing import Any
import warnings

from etils import epath
import matplotlib
import numpy as np
import optuna
import pandas as pd

from genre_flax.runtime import files
from genre_flax.runtime import text
from launch.sweeps import studies
from launch.sweeps import sweep_file

TABLE = 'sweep.csv'
BEST_COMMAND = 'best.sh'
_ATTRIBUTES = ('peak_memory_gb', 'failure', 'reason')


def to_table(study: optuna.Study, sweep: sweep_file.Sweep) -> pd.DataFrame:
  """A row per trial, of its last attempt."""
  rows = []
  for trial in studies.latest_attempts(study):
    values = list(trial.intermediate_values.values())
    score = sweep.best(values) if values else None
    if trial.state == studies.State.COMPLETE:
      score = trial.value
    seconds = trial.user_attrs.get('seconds')
    rows.append(
      {
        'trial': studies.original_number(trial),
        'state': trial.state.name.lower(),
        'score': score,
        'evaluations': len(values),
        'minutes': seconds and round(seconds / 60, 2),
        **{d.key: trial.params.get(d.key) for d in sweep.space},
        **{name: trial.user_attrs.get(name) for name in _ATTRIBUTES},
      }
    )
  return pd.DataFrame(rows)


def write_table(
  study: optuna.Study, sweep: sweep_file.Sweep, folder: epath.Path
) -> None:
  """Writes the table as CSV."""
  table = to_table(study, sweep).map(
    lambda cell: text.for_spreadsheet(cell) if isinstance(cell, str) else cell
  )
  files.write_atomic(folder / TABLE, table.to_csv(index=False))


def write_all(
  study: optuna.Study, sweep: sweep_file.Sweep, folder: epath.Path
) -> str | None:
  """Writes the table, the plots and the best command, which it returns."""
  write_table(study, sweep, folder)
  complete = (studies.State.COMPLETE,)
  if not study.get_trials(deepcopy=False, states=complete):
    return None
  with warnings.catch_warnings():
    warnings.simplefilter('ignore')  # Of plots of a single trial.
    _write_plots(study, sweep, folder)
  # With the keys that depend on sampled ones.
  best = optuna.trial.FixedTrial(study.best_trial.params)
  words = [*sweep.suggest(best), '--workdir=WORKDIR']
  words.remove('--config.dataset.test_split=')
  command = shlex.join(['python', '-m', 'genre_flax.main', *words])
  files.write_atomic(folder / BEST_COMMAND, f'{command}\n')
  return command


def _write_plots(study, sweep, folder):
  matplotlib.use('agg')
  logging.getLogger('matplotlib.category').setLevel(logging.WARNING)
  from matplotlib import pyplot

  for name, axes in _draw(study, sweep):
    with files.replace_file(folder / f'{name}.png') as temporary:
      figure = np.ravel(axes)[0].figure
      figure.savefig(temporary, dpi=120, format='png', bbox_inches='tight')
    pyplot.close('all')


def _draw(study, sweep) -> Iterator[tuple[str, Any]]:
  """Yields names and axes."""
  from matplotlib import pyplot
  from optuna.visualization import matplotlib as plots

  yield 'history', plots.plot_optimization_history(study)
  yield 'slices', plots.plot_slice(study)
  yield 'curves', plots.plot_intermediate_values(study)
  table = to_table(study, sweep)
  table = table[table.state.isin(['complete', 'pruned'])]
  if table.score.nunique() > 1 and len(sweep.space) > 1:
    yield 'importances', plots.plot_param_importances(study)
  _, panels = pyplot.subplots(1, 2, figsize=(9, 3.5), sharey=True)
  for axes, name in zip(panels, ('minutes', 'peak_memory_gb'), strict=True):
    for state, rows in table.groupby('state'):
      axes.scatter(rows[name], rows.score, label=state)
    for row in table.to_dict('records'):
      axes.annotate(row['trial'], (row[name], row['score']), fontsize=7)
    axes.set_xlabel(name.replace('_', ' '))
  panels[0].set_ylabel('score')
  panels[0].legend()
  yield 'costs', panels
