"""The HTML report: one file that shows runs and compares them."""

import base64
from collections.abc import Sequence
import datetime
import hashlib
import math
import pathlib
from typing import Any

from absl import logging
from etils import epath
import jinja2
import markupsafe

from genre_flax.reports import metric_titles
from genre_flax.reports.html import charts
from genre_flax.reports.html import comparison
from genre_flax.reports.html import genres
from genre_flax.reports.html import posters
from genre_flax.reports.html import run_summary
from genre_flax.reports.html import runs as runs_lib
from genre_flax.runtime import files
from genre_flax.runtime import machine
from genre_flax.runtime import text

FILE_NAME = 'report.html'
# The metrics at the top of the page.
HEADLINES = (
  'hit_at_3',
  'recall_at_3',
  'mean_average_precision',
  'mean_roc_auc',
)
# Posters of a comparison.
_NUM_CHANGED = 6
_TEMPLATES = pathlib.Path(__file__).parent / 'templates'


def write(
  runs: Sequence[runs_lib.Run], path: epath.Path, *, bootstrap_samples: int
) -> epath.Path:
  """Writes the report of some runs as one self-contained file.

  Args:
    runs: at least one; the others are compared with the first.
    path: of the file; its folder is created if missing.
    bootstrap_samples: number of resamples; 0 for no intervals.

  Returns:
    The path.

  Raises:
    InputError: the runs cannot be compared.
    StorageError: the file cannot be written.
  """
  splits = [run.scored for run in runs if run.scored is not None]
  is_comparison = len(splits) == len(runs) > 1
  if is_comparison:
    comparison.check_comparable(splits)
  logging.info('Writing %s.', path)
  views = [
    _view_run(
      run, bootstrap_samples=bootstrap_samples, posters_per_genre=len(runs) == 1
    )
    for run in runs
  ]
  comparisons = []
  if is_comparison:
    comparisons = [
      _view_comparison(
        splits[0], view, split, bootstrap_samples=bootstrap_samples
      )
      for view, split in zip(views[1:], splits[1:], strict=True)
    ]
  page = _render(views, comparisons)
  with files.storage_errors(path):
    path.parent.mkdir(parents=True, exist_ok=True)
  files.write_atomic(path, page)
  return path


def _view_run(run, *, bootstrap_samples, posters_per_genre) -> dict[str, Any]:
  summary = run_summary.read(run.workdir, run.predictor, data_dir=run.data_dir)
  posters_view = None
  if run.scored is not None:
    posters_view = _view_posters(
      run.scored,
      bootstrap_samples=bootstrap_samples,
      posters_per_genre=posters_per_genre,
    )
  return {
    'summary': summary,
    'metrics': run.metrics,
    'curves': charts.training_curves(summary),
    'posters': posters_view,
  }


def _view_posters(
  scored, *, bootstrap_samples, posters_per_genre
) -> dict[str, Any]:
  by_support = genres.compute_metrics(
    scored, bootstrap_samples=bootstrap_samples
  )
  order = [scored.genres.index(each.name) for each in by_support]
  choices = {
    'correct': posters.most_confident(scored, correct=True),
    'wrong': posters.most_confident(scored, correct=False),
    'suspicious': posters.suspicious_labels(scored),
  }
  per_genre = [
    posters.best_and_worst(scored, i) if posters_per_genre else {}
    for i in order
  ]
  (cards, *genre_cards), method = posters.make_cards(
    scored, [choices, *per_genre]
  )
  return {
    'genres': [
      {
        'metrics': each,
        'curve': charts.precision_recall(*each.curve, baseline=each.baseline),
        'cards': groups,
      }
      for each, groups in zip(by_support, genre_cards, strict=True)
    ],
    'confusions': genres.find_confusions(scored),
    'charts': _draw_charts(scored, order),
    'cards': cards,
    'method': method,
  }


def _draw_charts(scored, order) -> dict[str, str]:
  names = [scored.genres[i] for i in order]
  scores, labels = scored.scores[:, order], scored.labels[:, order]
  return {
    'reliability': charts.reliability(scores, labels),
    'histogram': charts.score_histogram(scores, labels),
    'ranges': charts.score_ranges(names, scores, labels),
    'mean_scores': charts.genre_matrix(
      names, genres.means_by_label(labels, scores)
    ),
    'co_occurrence': charts.genre_matrix(
      names, genres.means_by_label(labels, labels)
    ),
  }


def _view_comparison(first, view, split, *, bootstrap_samples):
  choices = comparison.changed_posters(first, split)
  shown = {name: group[:_NUM_CHANGED] for name, group in choices.items()}
  [cards], _ = posters.make_cards(split, [shown])
  return {
    'run': view,
    'differences': comparison.differences(
      first, split, bootstrap_samples=bootstrap_samples
    ),
    'counts': {name: len(group) for name, group in choices.items()},
    'cards': cards,
  }


def environment(folder: pathlib.Path) -> jinja2.Environment:
  """An environment of templates that escapes all values.

  Args:
    folder: of the templates.

  Returns:
    The environment; undefined names are errors.
  """
  result = jinja2.Environment(
    loader=jinja2.FileSystemLoader(folder),
    autoescape=True,
    undefined=jinja2.StrictUndefined,
    trim_blocks=True,
    lstrip_blocks=True,
  )
  result.filters |= {
    # Names may contain invisible characters.
    'shown': text.printable,
    'number': lambda value, digits=3: _format(value, f'.{digits}f'),
    'percent': lambda value: _format(value, '.0%').replace('%', ' %'),
    'signed': lambda value: _format(value, '+.3f').replace('-', '−'),
    'duration': lambda value: datetime.timedelta(seconds=round(value)),
    # Matplotlib escapes the texts of its SVGs.
    'svg': markupsafe.Markup,
  }
  return result


def _format(value: float | None, spec: str) -> str:
  is_defined = value is not None and math.isfinite(value)
  return format(value, spec) if is_defined else '–'


def _render(views, comparisons) -> str:
  style, script = (
    (_TEMPLATES / name).read_text(encoding='utf-8')
    for name in ('report.css', 'report.js')
  )
  checksum = hashlib.sha256(script.encode()).digest()
  return (
    environment(_TEMPLATES)
    .get_template('report.html')
    .render(
      runs=views,
      comparisons=comparisons,
      style=markupsafe.Markup(style),
      script=markupsafe.Markup(script),
      script_checksum=base64.b64encode(checksum).decode(),
      metric_titles=metric_titles.METRICS,
      headlines=HEADLINES,
      versions=machine.versions(['genre_flax', 'jax']),
      date=datetime.datetime.now(datetime.UTC).date().isoformat(),
    )
  )
