"""What a sweep found: rows to read, a CSV file, the best command, plots."""

from collections.abc import Sequence
import csv
import io
import pathlib
import shlex
from typing import Any

import matplotlib
from matplotlib import figure
import optuna

from genre_flax.runtime import files
from genre_flax.runtime import text as text_lib
from launch.sweeps import controller
from launch.sweeps import search_space
from launch.sweeps import sweep_file
from launch.sweeps import trials

SWEEP_CSV = 'sweep.csv'
BEST_COMMAND = 'best.sh'
_State = optuna.trial.TrialState
_NAMES = {
  _State.COMPLETE: 'done',
  _State.PRUNED: 'stopped',
  _State.FAIL: 'failed',
  _State.RUNNING: 'running',
  _State.WAITING: 'waiting',
}


def to_rows(
  study: optuna.Study, sweep: sweep_file.Sweep
) -> list[dict[str, Any]]:
  """One dict a trial; what is not known is ''.

  Keys: trial, state, score, evaluations, minutes, peak_memory_gb, the keys
  that are searched, failure, reason.
  """
  rows = []
  for trial in study.trials:
    attributes = trial.user_attrs
    values = list(trial.intermediate_values.values())
    score = trial.value
    if score is None and values:
      score = sweep.objective.best(values)  # So far.
    seconds = attributes.get(controller.SECONDS)
    rows.append(
      {
        'trial': trial.number,
        'state': _NAMES[trial.state],
        'score': '' if score is None else round(score, 6),
        'evaluations': len(values),
        'minutes': '' if seconds is None else round(seconds / 60, 2),
        'peak_memory_gb': attributes.get(controller.MEMORY, ''),
        **{d.key: trial.params.get(d.key, '') for d in sweep.space},
        'failure': attributes.get(controller.FAILURE, ''),
        'reason': attributes.get(controller.REASON, ''),
      }
    )
  return rows


def write_csv(rows: Sequence[dict[str, Any]], path: pathlib.Path) -> None:
  """Writes the rows; a reader never sees half of them."""
  text = io.StringIO()
  writer = csv.DictWriter(text, rows[0] if rows else [], lineterminator='\n')
  writer.writeheader()
  for row in rows:
    writer.writerow(
      {
        name: text_lib.for_spreadsheet(cell) if isinstance(cell, str) else cell
        for name, cell in row.items()
      }
    )
  files.write_atomic(path, text.getvalue())


class Table:
  """Prints a line for each change of a trial, in columns."""

  _WIDTHS = {'trial': 5, 'state': 8, 'score': 8, 'evaluations': 5}
  _HEADS = {'evaluations': 'evals', 'peak_memory_gb': 'GB'}

  def __init__(self, sweep: sweep_file.Sweep):
    self._columns = [
      *('trial', 'state', 'score', 'evaluations', 'minutes', 'peak_memory_gb'),
      *(dimension.key for dimension in sweep.space),
    ]
    self._printed: dict[int, str] = {}

  def header(self) -> str:
    """The names of the columns."""
    heads = {name: self._HEADS.get(name, name) for name in self._columns}
    return self._line(heads)

  def changed_lines(self, rows: Sequence[dict[str, Any]]) -> list[str]:
    """A line for each row that is not what it was at the last call."""
    lines = []
    for row in rows:
      line = self._line(row)
      if row['failure']:
        line = f'{line}  {row["failure"]}: {row["reason"]}'
      is_news = self._printed.get(row['trial']) != line
      if is_news and row['state'] != 'waiting':
        lines.append(line)
      self._printed[row['trial']] = line
    return lines

  def _line(self, row):
    return '  '.join(
      _cell(row[name]).rjust(self._WIDTHS.get(name, max(7, len(name))))
      for name in self._columns
    )


def _cell(value: Any) -> str:
  return f'{value:.4g}' if isinstance(value, float) else str(value)


def best_flags(
  study: optuna.Study, sweep: sweep_file.Sweep, extra_flags: Sequence[str]
) -> list[str] | None:
  """The flags of the best trial's training; None where none was finished."""
  complete = [t for t in study.trials if t.state == _State.COMPLETE]
  if not complete:
    return None
  best = sweep.objective.best([trial.value for trial in complete])
  trial = next(trial for trial in complete if trial.value == best)
  # With what changes along with the keys that Optuna knows.
  chosen = sweep.suggest(optuna.trial.FixedTrial(trial.params))
  return trials.training_flags(sweep, chosen, extra_flags)


def write_best(flags: Sequence[str], path: pathlib.Path) -> str:
  """Writes and returns the command that trains with the best values."""
  command = shlex.join(
    ['python', '-m', 'genre_flax.main', *flags, '--workdir=WORKDIR']
  )
  files.write_atomic(path, f'{command}\n')
  return command


def draw_plots(
  study: optuna.Study, sweep: sweep_file.Sweep, folder: pathlib.Path
) -> list[pathlib.Path]:
  """Draws the history, the importance of the keys, and a plot for each key.

  Args:
    study: of the sweep.
    sweep: its file.
    folder: to write to.

  Returns:
    The pictures; none where no trial was finished.
  """
  finished = [
    row
    for row in to_rows(study, sweep)
    if row['state'] in ('done', 'stopped') and row['score'] != ''
  ]
  if not finished:
    return []
  with matplotlib.rc_context(
    {'axes.spines.top': False, 'axes.spines.right': False, 'font.size': 10}
  ):
    pictures = [_draw_history(finished, sweep, folder / 'history.png')]
    importance = _importance(study, sweep)
    if importance:
      pictures.append(_draw_importance(importance, folder / 'importance.png'))
    pictures += [_draw_key(finished, sweep, d, folder) for d in sweep.space]
  return pictures


def _new_figure(width, height, num_axes=1):
  # Not by pyplot, which keeps figures and asks for a display.
  drawn = figure.Figure(figsize=(width, height), layout='constrained')
  return drawn, drawn.subplots(1, num_axes, sharex=True, squeeze=False)[0]


def _write_picture(drawn, path):
  with files.replace_file(path) as beside:
    drawn.savefig(beside, dpi=120, format='png')
  return path


def _draw_history(rows, sweep, path):
  drawn, (axes,) = _new_figure(6, 3.5)
  numbers = [row['trial'] for row in rows]
  scores = [row['score'] for row in rows]
  best = [sweep.objective.best(scores[: end + 1]) for end in range(len(scores))]
  axes.scatter(numbers, scores, label='trial', color='tab:blue')
  axes.step(numbers, best, where='post', label='best', color='tab:orange')
  axes.set_xlabel('trial')
  axes.set_ylabel(_objective_name(sweep))
  axes.xaxis.get_major_locator().set_params(integer=True)
  axes.legend(frameon=False)
  return _write_picture(drawn, path)


def _importance(study, sweep):
  """Share of the score's variance by key; {} where it cannot be told."""
  complete = [t for t in study.trials if t.state == _State.COMPLETE]
  keys = [d.key for d in sweep.space if not d.when]
  scores = {trial.value for trial in complete}
  if len(keys) < 2 or len(complete) < 4 or len(scores) < 2:
    return {}
  return optuna.importance.get_param_importances(study, params=keys)


def _draw_importance(importance, path):
  drawn, (axes,) = _new_figure(6, 1 + 0.4 * len(importance))
  keys = list(importance)[::-1]
  bars = axes.barh(keys, [importance[key] for key in keys], color='tab:blue')
  axes.bar_label(bars, fmt='%.2f', padding=3)
  axes.set_xlabel('share of the importance')
  axes.set_xlim(0, 1.1)
  return _write_picture(drawn, path)


def _draw_key(rows, sweep, dimension, folder):
  """The score by a key's value, with time and memory beside it."""
  drawn, panels = _new_figure(10, 3.5, 3)
  rows = [row for row in rows if row[dimension.key] != '']
  place = _places([row[dimension.key] for row in rows])
  rows.sort(key=lambda row: place[row[dimension.key]])
  for axes, name, title in zip(
    panels,
    ('score', 'minutes', 'peak_memory_gb'),
    (_objective_name(sweep), 'minutes', 'peak host memory, GB'),
    strict=True,
  ):
    for number, (label, group) in enumerate(_groups(rows, sweep, dimension)):
      for state, marker in (('done', 'o'), ('stopped', 'x')):
        chosen = [r for r in group if r['state'] == state and r[name] != '']
        if chosen:
          axes.plot(
            [place[row[dimension.key]] for row in chosen],
            [row[name] for row in chosen],
            linestyle=':' if label and state == 'done' else '',
            marker=marker,
            color=f'C{number}',
            label=' '.join(filter(None, [label, _MARKS[state]])),
          )
    if dimension.log:
      axes.set_xscale('log')
    if name != 'score':
      axes.set_ylim(bottom=0)
    axes.set_xlabel(dimension.key)
    axes.set_title(title, fontsize=10)
  if not all(_is_number(value) for value in place):
    panels[0].set_xticks(list(place.values()), list(place))
  if len(panels[0].get_lines()) > 1:
    panels[0].legend(frameon=False, fontsize=8)
  path = folder / f'by_{dimension.key}.png'
  return _write_picture(drawn, path)


_MARKS = {'done': '', 'stopped': 'stopped early'}


def _groups(rows, sweep, dimension):
  """(label, rows) for each value of the other key, where there is one other."""
  others = [other for other in sweep.space if other.key != dimension.key]
  if len(others) != 1 or not others[0].values:
    return [('', rows)]
  [other] = others
  return [
    (
      f'{other.key} {search_space.as_text(value)}',
      [row for row in rows if row[other.key] == search_space.as_text(value)],
    )
    for value in other.values
  ]


def _places(values):
  """Where each value stands on the axis: numbers as they are, names in turn.

  Categories are kept as text in the study.
  """
  if all(_is_number(value) for value in values):
    return {value: float(value) for value in values}
  return {value: n for n, value in enumerate(dict.fromkeys(values))}


def _is_number(value):
  try:
    float(value)
  except ValueError:
    return False
  return True


def _objective_name(sweep):
  objective = sweep.objective
  return f'{objective.split} {objective.metric.replace("_", " ")}'
