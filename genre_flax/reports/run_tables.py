"""Tables of runs: comparisons of groups, and lists of the runs of a folder."""

from collections.abc import Iterator
import json
import math
from typing import Any

from absl import logging
from etils import epath
import pandas as pd

from genre_flax.checkpoints import checkpointer as checkpointer_lib
from genre_flax.evaluation import comparison
from genre_flax.evaluation import metrics
from genre_flax.inference import continuous_evaluation
from genre_flax.reports import split_metrics
from genre_flax.runtime import errors
from genre_flax.runtime import lock
from genre_flax.runtime import metric_writer
from genre_flax.runtime import text
from genre_flax.training import run_history

_NOTE = (
  'Mean ± standard deviation over runs, on {posters} posters. In brackets:',
  '95 % interval of a paired bootstrap over posters and runs, which does not',
  'cover the variation between seeds in groups of one run.',
)


def format_comparison(compared: pd.DataFrame, kind: str) -> str:
  """A table of `comparison.compare` as 'text', 'csv', 'latex' or 'json'.

  Text and LaTeX are a table of metrics and one of differences.
  """
  if kind in ('csv', 'json'):
    return format_table(compared, kind)
  values, differences = pd.DataFrame(compared['runs']), pd.DataFrame()
  first, *others = compared.index.drop(comparison.BASELINE)
  for name in compared.columns:
    if f'{name}_std' not in compared:
      continue
    is_fitted = name.endswith(metrics.FITTED)
    title = metrics.find(name).title + (' (fitted)' if is_fitted else '')
    values[title] = [
      f'{mean:.3f}' + ('' if math.isnan(std) else f' ± {std:.3f}')
      for mean, std in compared[[name, f'{name}_std']].itertuples(index=False)
    ]
    if others:
      columns = [f'{name}_{suffix}' for suffix in ('difference', 'low', 'high')]
      differences[title] = compared.loc[others, columns].apply(
        lambda row: '{:+.3f} [{:+.3f}, {:+.3f}]'.format(*row), axis=1
      )
  configs = compared.filter(regex=r'^config\.').drop(comparison.BASELINE).T
  tables = {
    'Metrics': values,
    f'Differences to {text.printable(first)}': differences,
    'Config keys that differ': configs,
  }
  mark = '% ' if kind == 'latex' else ''
  blocks = [
    f'{mark}{title}\n{format_table(table, kind)}'
    for title, table in tables.items()
    if table.size
  ]
  posters = compared['posters'].iloc[0]
  notes = [f'{mark}{line.format(posters=posters)}' for line in _NOTE]
  return '\n'.join([*blocks, *notes, ''])


def format_table(table: pd.DataFrame, kind: str) -> str:
  """A table as 'text', 'csv', 'latex' or 'json'.

  The index is the first column.
  """
  if kind in ('csv', 'json'):
    table = table.reset_index()
  if kind == 'json':  # It does not have NaN.
    rows = table.astype(object).where(table.notna(), None).to_dict('records')
    return f'{json.dumps(rows, indent=2)}\n'
  escape = text.for_spreadsheet if kind == 'csv' else text.printable
  table = table.map(
    lambda cell: escape(cell) if isinstance(cell, str) else cell
  )
  if kind == 'csv':
    return table.to_csv(index=False, lineterminator='\n')
  table = table.rename(index=lambda name: escape(str(name)))
  table = table.rename_axis(index=None, columns=None)
  table = table.astype(object).where(table.notna(), '')
  numbers = {'float_format': '{:.3f}'.format}
  if kind == 'latex':
    return table.to_latex(escape=True, **numbers)
  return f'{table.to_string(line_width=100, **numbers)}\n'


def list_runs(folder: epath.PathLike) -> pd.DataFrame:
  """The runs below a folder, one row per workdir.

  Columns: 'state', which is 'running', 'finished', 'interrupted', 'diverged' or
  'damaged' (without a valid config or checkpoint); 'step' of the latest
  checkpoint; 'metric', that of `config.best_metric`, its best value on the
  'validation' split and, after the training, on the 'test' split; 'commit',
  'started' and 'command' of the latest start. The index is the path below the
  folder.

  Raises:
    InputError: there are no runs.
  """
  folder = epath.Path(folder)
  rows = {}
  for workdir in _find_workdirs(folder):
    try:
      row = _describe(workdir)
    except errors.InputError as e:
      logging.warning('%s', e)
      row = {'state': 'damaged'}
    rows[str(workdir.relative_to(folder))] = row
  if not rows:
    raise errors.InputError(
      f'There are no runs below {folder}: no folder has a'
      f' {run_history.FILE_NAME}, which each training writes.'
    )
  return pd.DataFrame.from_dict(rows, orient='index').rename_axis('run')


def _find_workdirs(folder: epath.Path) -> Iterator[epath.Path]:
  if (folder / run_history.FILE_NAME).exists():
    yield folder
  elif folder.is_dir():
    for child in sorted(folder.iterdir()):
      yield from _find_workdirs(child)


def _describe(workdir: epath.Path) -> dict[str, Any]:
  config = comparison.read_config(workdir)
  metric = config.get('best_metric', 'mean_average_precision')
  with checkpointer_lib.Checkpointer(workdir, read_only=True) as checkpointer:
    _, best = (checkpointer.ranked() or [(0, {})])[-1]
  steps, num_train_steps = continuous_evaluation.read_steps(workdir)
  step = max(steps, default=0)
  try:
    report = json.loads((workdir / split_metrics.FILE_NAME).read_bytes())
    test = float(report['metrics'][metric]['value'])
  except (KeyError, OSError, TypeError, ValueError):
    test = math.nan
  start = (run_history.read(workdir) or [{}])[-1]
  return {
    'state': _state(workdir, step, num_train_steps),
    'step': step,
    'metric': metric,
    'validation': best.get(metric, math.nan),
    'test': test,
    'commit': start.get('commit', ''),
    'started': start.get('time', ''),
    'command': start.get('command', ''),
  }


def _state(workdir, step, num_train_steps) -> str:
  if lock.is_held(workdir / '.lock'):
    return 'running'
  if step and num_train_steps is None:
    return 'damaged'
  if step and step >= num_train_steps:
    return 'finished'
  # A training that diverges writes the value as null.
  lines = metric_writer.read(workdir)
  is_diverged = (
    lines and lines[-1]['step'] > step and None in lines[-1].values()
  )
  return 'diverged' if is_diverged else 'interrupted'
