"""What the template shows of a run: plain values, in the order of the page."""

from collections.abc import Callable, Sequence
import dataclasses
from typing import Any

from genre_flax.reports.html import charts
from genre_flax.reports.html import facts as facts_lib
from genre_flax.reports.html import genre_rows
from genre_flax.reports.html import posters
from genre_flax.reports.html import runs as runs_lib

# In the order of the page: of a metric its name, title, and what it says.
METRICS = (
  ('hit_at_3', 'Hit at 3', 'at least one of the three named genres is right'),
  ('recall_at_3', 'Recall at 3', 'share of a poster’s genres among the three'),
  ('precision_at_3', 'Precision at 3', 'share of the three that are right'),
  (
    'mean_average_precision',
    'Mean average precision',
    'over genres; ranks the posters of each, rare genres count as much',
  ),
  (
    'micro_average_precision',
    'Micro average precision',
    'of all (poster, genre) pairs in one ranking',
  ),
  ('mean_roc_auc', 'Mean ROC-AUC', 'over genres; 0.5 is chance'),
  ('micro_f1_fitted', 'Micro-F1', 'of decisions at fitted thresholds'),
  ('macro_f1_fitted', 'Macro-F1', 'mean of the genres’, fitted thresholds'),
  ('exact_match_fitted', 'Exact match', 'all genres of a poster right, fitted'),
  ('accuracy', 'Accuracy', 'of (poster, genre) pairs at 0.5; says little'),
)
# Those that stand large at the top.
HEADLINES = (
  'hit_at_3',
  'recall_at_3',
  'mean_average_precision',
  'mean_roc_auc',
)


@dataclasses.dataclass(frozen=True)
class MetricRow:
  """A metric with its interval and the constant baseline."""

  name: str
  title: str
  meaning: str
  value: float | None
  low: float | None
  high: float | None
  constant_baseline: float | None


@dataclasses.dataclass(frozen=True)
class GenreView:
  """A genre: its numbers, its curve, and posters that tell of it."""

  row: genre_rows.GenreRow
  curve: str
  best: Sequence[posters.Card]
  worst: Sequence[posters.Card]
  wrong: Sequence[posters.Card]


@dataclasses.dataclass(frozen=True)
class PostersView:
  """What needs the posters.

  Attributes:
    genres: the most frequent first.
    taken_for: of `genre_rows.taken_for`.
    charts: {title: SVG}.
    right: the surest that are right.
    wrong: the surest that are wrong.
    suspects: those of which a label looks wrong.
    method: how it was found where the network looked.
  """

  genres: Sequence[GenreView]
  taken_for: Sequence[genre_rows.TakenFor]
  charts: dict[str, str]
  right: Sequence[posters.Card]
  wrong: Sequence[posters.Card]
  suspects: Sequence[posters.Card]
  method: str


@dataclasses.dataclass(frozen=True)
class RunView:
  """A run, as the page shows it.

  Attributes:
    facts: of its workdir.
    metrics: rows of the table; empty where there are none.
    headlines: those of them that stand at the top.
    report: that they are of.
    curves: of the training, {title: SVG}.
    posters: None where the data set is not there.
  """

  facts: facts_lib.Facts
  metrics: Sequence[MetricRow]
  headlines: Sequence[MetricRow]
  report: dict[str, Any] | None
  curves: dict[str, str]
  posters: PostersView | None

  def value_of(self, name: str) -> float | None:
    """A metric's value; None where the run was evaluated without it."""
    return next((row.value for row in self.metrics if row.name == name), None)


def metric_rows(report: dict[str, Any] | None) -> list[MetricRow]:
  """The rows of the table of metrics, of `split_metrics.make_report`."""
  entries = report['metrics'] if report else {}
  return [
    MetricRow(
      name,
      title,
      meaning,
      **entries[name],
    )
    for name, title, meaning in METRICS
    if name in entries
  ]


def make_run_view(
  source: runs_lib.Run,
  *,
  bootstrap_samples: int,
  with_genre_posters: bool,
  progress: Callable[[str], None],
) -> RunView:
  """Works out and draws all that the page shows of a run.

  Args:
    source: the run.
    bootstrap_samples: resamples behind the intervals; 0 for none.
    with_genre_posters: whether to show posters of each genre.
    progress: is told what was done.
  """
  facts = facts_lib.gather(
    source.workdir, source.predictor, data_dir=source.data_dir
  )
  curves = charts.training_curves(facts)
  progress('curves of the training')
  posters = None
  if source.scored is not None:
    posters = _make_posters_view(
      source.scored,
      bootstrap_samples=bootstrap_samples,
      with_genre_posters=with_genre_posters,
      progress=progress,
    )
  rows = metric_rows(source.metrics)
  return RunView(
    facts=facts,
    metrics=rows,
    headlines=[row for row in rows if row.name in HEADLINES],
    report=source.metrics,
    curves=curves,
    posters=posters,
  )


def _make_posters_view(
  scored, *, bootstrap_samples, with_genre_posters, progress
) -> PostersView:
  rows = genre_rows.make_rows(scored, bootstrap_samples=bootstrap_samples)
  progress('intervals of the genres')
  places = {name: i for i, name in enumerate(scored.genres)}
  nothing = ([], [], [])
  of_genres = {
    row.name: posters.best_and_worst(scored, places[row.name])
    if with_genre_posters
    else nothing
    for row in rows
  }
  right = posters.surest(scored, right=True)
  wrong = posters.surest(scored, right=False)
  suspects = posters.suspect_labels(scored)
  cards = posters.Cards(
    scored,
    [
      *right,
      *wrong,
      *suspects,
      *(
        choice
        for three in of_genres.values()
        for some in three
        for choice in some
      ),
    ],
  )
  progress('where it looked')
  genres = [
    GenreView(
      row,
      charts.precision_recall(row.name, row.curve, trivial=row.trivial),
      *map(cards.make, of_genres[row.name]),
    )
    for row in rows
  ]
  progress('curves of the genres')
  drawn = _draw_charts(scored, [places[row.name] for row in rows])
  progress('charts')
  return PostersView(
    genres=genres,
    taken_for=genre_rows.taken_for(scored),
    charts=drawn,
    right=cards.make(right),
    wrong=cards.make(wrong),
    suspects=cards.make(suspects),
    method=cards.method,
  )


# Steps of which `make_run_view` tells.
NUM_STEPS = 5


def _draw_charts(scored, order) -> dict[str, str]:
  scores, labels = scored.scores, scored.labels
  names = [scored.genres[i] for i in order]

  def matrix(title, values):
    return charts.genre_matrix(title, names, values[order][:, order])

  return {
    'reliability': charts.reliability(scores, labels),
    'scores': charts.score_histogram(scores, labels),
    'scores_by_genre': charts.score_ranges(
      names, scores[:, order], labels[:, order]
    ),
    'mean_scores': matrix('mean scores', genre_rows.mean_scores(scored)),
    'co_occurrence': matrix('co-occurrence', genre_rows.co_occurrence(scored)),
  }
