"""The HTML report: one file that shows runs and compares them."""

import base64
from collections.abc import Mapping, Sequence
import dataclasses
import datetime
import hashlib
import math
import pathlib
from typing import Any

from absl import logging
from etils import epath
import markupsafe

from genre_flax.reports import metric_titles
from genre_flax.reports import templates
from genre_flax.reports.html import charts
from genre_flax.reports.html import comparison
from genre_flax.reports.html import genres
from genre_flax.reports.html import posters
from genre_flax.reports.html import run_summary
from genre_flax.reports.html import runs as runs_lib
from genre_flax.runtime import files
from genre_flax.runtime import machine

FILE_NAME = 'report.html'
# The metrics at the top of the page.
HEADLINES = (
  'hit_at_3',
  'recall_at_3',
  'mean_average_precision',
  'mean_roc_auc',
)
_TEMPLATES = pathlib.Path(__file__).parent / 'templates'


@dataclasses.dataclass(frozen=True)
class GenreView:
  """A genre as the templates show it.

  Attributes:
    metrics: of the genre.
    curve: an SVG, precision against recall.
    cards: of posters with high and low scores, by title.
  """

  metrics: genres.GenreMetrics
  curve: str
  cards: Mapping[str, Sequence[posters.Card]]


@dataclasses.dataclass(frozen=True)
class PostersView:
  """The results on a split as the templates show them.

  Attributes:
    genres: the most frequent first.
    confusions: between genres.
    charts: SVGs by name.
    cards: 'correct' and 'wrong', the most confident predictions, and
      'suspicious', with labels that may be wrong.
    method: of the attribution maps.
  """

  genres: Sequence[GenreView]
  confusions: Sequence[genres.Confusion]
  charts: Mapping[str, str]
  cards: Mapping[str, Sequence[posters.Card]]
  method: str


@dataclasses.dataclass(frozen=True)
class RunView:
  """A run as the templates show it.

  Attributes:
    summary: of the run.
    metrics: of `split_metrics.make_report`, or None.
    curves: SVGs of the training by title.
    posters: None if the dataset is missing.
  """

  summary: run_summary.RunSummary
  metrics: Mapping[str, Any] | None
  curves: Mapping[str, str]
  posters: PostersView | None


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
    _make_view(
      run, bootstrap_samples=bootstrap_samples, posters_per_genre=len(runs) == 1
    )
    for run in runs
  ]
  comparisons = []
  if is_comparison:
    comparisons = [
      _compare(splits[0], view, split, bootstrap_samples=bootstrap_samples)
      for view, split in zip(views[1:], splits[1:], strict=True)
    ]
  page = _render(views, comparisons)
  with files.explaining(path):
    path.parent.mkdir(parents=True, exist_ok=True)
  files.write_whole(path, page)
  return path


def _make_view(run, *, bootstrap_samples, posters_per_genre) -> RunView:
  summary = run_summary.read(run.workdir, run.predictor, data_dir=run.data_dir)
  view = None
  if run.scored is not None:
    view = _view_posters(
      run.scored,
      bootstrap_samples=bootstrap_samples,
      posters_per_genre=posters_per_genre,
    )
  return RunView(summary, run.metrics, charts.training_curves(summary), view)


def _view_posters(
  scored, *, bootstrap_samples, posters_per_genre
) -> PostersView:
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
  maker = posters.CardMaker(
    scored,
    [
      choice
      for groups in (choices, *per_genre)
      for group in groups.values()
      for choice in group
    ],
  )
  return PostersView(
    genres=[
      GenreView(
        each,
        charts.precision_recall(*each.curve, baseline=each.baseline),
        maker.make(groups),
      )
      for each, groups in zip(by_support, per_genre, strict=True)
    ],
    confusions=genres.find_confusions(scored),
    charts=_draw_charts(scored, order),
    cards=maker.make(choices),
    method=maker.method,
  )


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


def _compare(first, view, split, *, bootstrap_samples) -> dict[str, Any]:
  result = comparison.compare(first, split, bootstrap_samples=bootstrap_samples)
  choices = {'improved': result.improved, 'degraded': result.degraded}
  maker = posters.CardMaker(split, [*result.improved, *result.degraded])
  return {
    'run': view,
    'differences': result.differences,
    'num_improved': result.num_improved,
    'num_degraded': result.num_degraded,
    'cards': maker.make(choices),
  }


def _render(views, comparisons) -> str:
  environment = templates.environment(_TEMPLATES)
  environment.filters |= {
    'signed': _signed,
    # Matplotlib escapes the texts of its SVGs.
    'svg': markupsafe.Markup,
  }
  style, script = (
    (_TEMPLATES / name).read_text(encoding='utf-8')
    for name in ('report.css', 'report.js')
  )
  checksum = hashlib.sha256(script.encode()).digest()
  return environment.get_template('report.html').render(
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


def _signed(value: float) -> str:
  return f'{value:+.3f}'.replace('-', '−') if math.isfinite(value) else '–'
