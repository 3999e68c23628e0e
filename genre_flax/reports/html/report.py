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

from genre_flax.attribution import words
from genre_flax.evaluation import bootstrap
from genre_flax.evaluation import calibration
from genre_flax.evaluation import comparison as comparison_lib
from genre_flax.evaluation import metrics
from genre_flax.reports import split_metrics
from genre_flax.reports.html import charts
from genre_flax.reports.html import comparison
from genre_flax.reports.html import genres
from genre_flax.reports.html import posters
from genre_flax.reports.html import runs as runs_lib
from genre_flax.runtime import files
from genre_flax.runtime import machine
from genre_flax.runtime import text

FILE_NAME = 'report.html'
# The metrics at the top of the page.
_HEADLINES = (
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
  """Writes one self-contained file; other runs are compared with the first.

  Raises:
    InputError: the runs cannot be compared.
    StorageError: the file cannot be written.
  """
  comparisons = []
  if all(run.scored is not None for run in runs):
    comparison_lib.check_same_posters([run.scored for run in runs])
    comparisons = [
      _view_comparison(runs[0].scored, run, bootstrap_samples=bootstrap_samples)
      for run in runs[1:]
    ]
  logging.info('Writing %s.', path)
  views = [
    (
      charts.training_curves(run),
      _view_split(
        run.scored,
        bootstrap_samples=bootstrap_samples,
        posters_per_genre=len(runs) == 1,
      ),
    )
    for run in runs
  ]
  page = _render(runs=runs, views=views, comparisons=comparisons)
  with files.storage_errors(path):
    path.parent.mkdir(parents=True, exist_ok=True)
  files.write_atomic(path, page)
  return path


def _view_split(
  scored, *, bootstrap_samples, posters_per_genre
) -> dict[str, Any] | None:
  if scored is None:
    return None
  by_support = genres.compute_metrics(
    scored, bootstrap_samples=bootstrap_samples
  )
  names = [each.name for each in by_support]
  order = [scored.genres.index(name) for name in names]
  scores, labels = scored.scores[:, order], scored.labels[:, order]
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
    'words': _strongest_words(scored, order),
    'confusions': genres.find_confusions(scored),
    'charts': {
      'reliability': charts.reliability(scores, labels),
      'histogram': charts.score_histogram(scores, labels),
      'ranges': charts.score_ranges(names, scores, labels),
      'mean_scores': charts.genre_matrix(
        names, genres.means_by_label(labels, scores)
      ),
      'co_occurrence': charts.genre_matrix(
        names, genres.means_by_label(labels, labels)
      ),
    },
    'cards': cards,
    'method': method,
  }


def _strongest_words(scored, order):
  """Words per genre, of `strongest_by_genre`; None for images alone."""
  if scored.predictor.text is None:
    return None
  found = words.WordExplainer(scored.predictor).strongest_by_genre(
    [scored.records[i].text for i in range(len(scored))]
  )
  return [(scored.genres[i], found[i]) for i in order]


def _view_comparison(first, run, *, bootstrap_samples) -> dict[str, Any]:
  choices = comparison.changed_posters(first, run.scored)
  shown = {name: group[:_NUM_CHANGED] for name, group in choices.items()}
  [cards], _ = posters.make_cards(run.scored, [shown])
  return {
    'run': run,
    'differences': comparison.differences(
      first, run.scored, bootstrap_samples=bootstrap_samples
    ),
    'counts': {name: len(group) for name, group in choices.items()},
    'cards': cards,
  }


def _format(value: float | None, spec: str) -> str:
  is_defined = value is not None and math.isfinite(value)
  return format(value, spec) if is_defined else '–'


def metric_titles() -> list[tuple[str, str, str]]:
  """Name, title and description of each metric of the page."""
  titles = []
  for name in metrics.reported(calibration.OPERATING_POINTS):
    metric = metrics.find(name)
    title = f'{metric.title[0].upper()}{metric.title[1:]}'
    is_fitted = name.endswith(metrics.FITTED)
    note = ' At the fitted operating point.' if is_fitted else ''
    titles.append((name, title, f'{metric.description}{note}'))
  return titles


def verdict(difference: bootstrap.Estimate, name: str) -> str:
  """The class of a difference: '' if its interval contains zero."""
  if difference.low <= 0 <= difference.high or math.isnan(difference.low):
    return ''
  is_better = (difference.low > 0) == metrics.find(name).higher_is_better
  return 'better' if is_better else 'worse'


def _render(**values) -> str:
  environment = jinja2.Environment(
    loader=jinja2.FileSystemLoader(_TEMPLATES),
    autoescape=True,
    undefined=jinja2.StrictUndefined,
    trim_blocks=True,
    lstrip_blocks=True,
  )
  environment.filters |= {
    # Names may contain invisible characters.
    'shown': text.printable,
    'number': lambda value, digits=3: _format(value, f'.{digits}f'),
    'percent': lambda value: _format(value, '.0%').replace('%', ' %'),
    'signed': lambda value: _format(value, '+.3f').replace('-', '−'),
    'verdict': verdict,
    'duration': lambda value: datetime.timedelta(seconds=round(value)),
    'means': split_metrics.describe_means,
    # Matplotlib escapes the texts of its SVGs.
    'svg': markupsafe.Markup,
  }
  style, script = (
    markupsafe.Markup((_TEMPLATES / name).read_text(encoding='utf-8'))
    for name in ('report.css', 'report.js')
  )
  checksum = hashlib.sha256(script.encode()).digest()
  return environment.get_template('report.html').render(
    style=style,
    script=script,
    script_checksum=base64.b64encode(checksum).decode(),
    metric_titles=metric_titles(),
    headlines=_HEADLINES,
    versions=machine.versions(['genre_flax', 'jax']),
    date=datetime.datetime.now(datetime.UTC).date().isoformat(),
    **values,
  )
