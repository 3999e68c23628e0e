"""Results of a sweep: a table, the command of the best trial, and plots."""

import logging
import shlex
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


def to_table(study: optuna.Study, sweep: sweep_file.Sweep) -> pd.DataFrame:
  """A row per trial, of its last attempt."""
  rows = []
  for trial in studies.latest_attempts(study):
    values, found = list(trial.intermediate_values.values()), trial.user_attrs
    score = sweep.best(values) if values else None
    is_complete = trial.state == studies.State.COMPLETE
    row = {
      'trial': studies.original_number(trial),
      'state': trial.state.name.lower(),
      'score': trial.value if is_complete else score,
      'evaluations': len(values),
      'minutes': round(found.get('seconds', 0) / 60, 2),
      **{n: found.get(n) for n in ('peak_memory_gb', 'failure', 'reason')},
      **trial.params,
    }
    rows.append(row)
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
  if not any(t.state == studies.State.COMPLETE for t in study.trials):
    return None
  with warnings.catch_warnings():
    warnings.simplefilter('ignore')  # Of plots of a single trial.
    _write_plots(study, to_table(study, sweep), folder)
  best = optuna.trial.FixedTrial(study.best_params)
  words = [*sweep.trial_flags(best), '--workdir=WORKDIR']
  words.remove('--config.dataset.test_split=')
  command = shlex.join(['python', '-m', 'genre_flax.main', *words])
  files.write_atomic(folder / 'best.sh', f'{command}\n')
  return command


def _write_plots(study, table, folder):
  matplotlib.use('agg')
  logging.getLogger('matplotlib.category').setLevel(logging.WARNING)
  from optuna.visualization import matplotlib as plots

  table = table[table.state.isin(['complete', 'pruned'])]
  drawn = {
    'history': plots.plot_optimization_history(study),
    'slices': plots.plot_slice(study),
    'curves': plots.plot_intermediate_values(study),
    'costs': _plot_costs(table),
  }
  if table.score.nunique() > 1 and len(study.best_params) > 1:
    drawn['importances'] = plots.plot_param_importances(study)
  for name, axes in drawn.items():
    with files.replace_file(folder / f'{name}.png') as temporary:
      figure = np.ravel(axes)[0].figure
      figure.savefig(temporary, dpi=120, format='png', bbox_inches='tight')
  matplotlib.pyplot.close('all')


def _plot_costs(table):
  _, panels = matplotlib.pyplot.subplots(1, 2, figsize=(9, 3.5), sharey=True)
  for axes, name in zip(panels, ('minutes', 'peak_memory_gb'), strict=True):
    axes.scatter(table[name], table.score)
    for row in table.to_dict('records'):
      axes.annotate(row['trial'], (row[name], row['score']), fontsize=7)
    axes.set(xlabel=name.replace('_', ' '), ylabel='score')
  return panels
