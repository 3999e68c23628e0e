"""The charts of the report, as SVG whose colours follow the page's theme.

Matplotlib draws in a few stand-in colours, which are replaced by the variables
of report.css.
"""

from collections.abc import Iterator, Sequence
import contextlib
import io
import re
import warnings

import matplotlib
from matplotlib import figure
from matplotlib import ticker
import numpy as np

from genre_flax.reports.html import facts as facts_lib
from genre_flax.runtime import checksums

_INK, _FAINT, _GRID = '#010101', '#020202', '#030303'
_MAIN, _SECOND, _BAND = '#040404', '#050505', '#060606'
_VARIABLES = {
  _INK: 'var(--ink)',
  _FAINT: 'var(--faint)',
  _GRID: 'var(--grid)',
  _MAIN: 'var(--main)',
  _SECOND: 'var(--second)',
  _BAND: 'var(--band)',
}
# From low to high, readable on light and on dark.
_HEAT = 'viridis'
_STYLE = {
  'svg.fonttype': 'none',
  # Names of genres are text, and no formulas.
  'text.parse_math': False,
  'font.size': 9,
  'text.color': _INK,
  'axes.labelcolor': _FAINT,
  'axes.edgecolor': _GRID,
  'axes.facecolor': 'none',
  'axes.grid': True,
  'axes.axisbelow': True,
  'axes.spines.top': False,
  'axes.spines.right': False,
  'grid.color': _GRID,
  'grid.linewidth': 0.6,
  'xtick.color': _GRID,
  'ytick.color': _GRID,
  'xtick.labelcolor': _FAINT,
  'ytick.labelcolor': _FAINT,
  'lines.linewidth': 1.6,
  'legend.frameon': False,
}
_NUM_BINS = 15


def training_curves(facts: facts_lib.Facts) -> dict[str, str]:
  """Loss, metrics, learning rate and images/s by step, with the best marked.

  Args:
    facts: of the run.

  Returns:
    {title: SVG}; without those of which the workdir has no numbers.
  """
  split = facts.validation_split
  wanted = {
    'Loss': [
      ('training', 'train', 'loss', _SECOND),
      (split, split, 'loss', _MAIN),
    ],
    'Validation metrics': [
      ('mean average precision', split, 'mean_average_precision', _MAIN),
      ('mean ROC-AUC', split, 'mean_roc_auc', _SECOND),
      ('recall at 3', split, 'recall_at_3', _FAINT),
    ],
    'Learning rate': [('', 'train', 'learning_rate', _MAIN)],
    'Images per second': [('', 'train', 'images_per_second', _MAIN)],
  }
  drawn = {}
  for title, lines in wanted.items():
    series = [
      (label, facts.series(of, name), color) for label, of, name, color in lines
    ]
    if any(points for _, points, _ in series):
      drawn[title] = _lines(title, series, best=facts.predictor.step)
  return drawn


def _lines(title, series, *, best):
  with _drawing(title, 4.4, 2.7) as (axes, svg):
    for label, points, color in series:
      if points:
        style = '-' if len(points) > 1 else 'o'
        axes.plot(*zip(*points, strict=True), style, color=color, label=label)
    axes.axvline(best, color=_FAINT, linewidth=0.9, linestyle=(0, (4, 3)))
    axes.set_xlabel(f'step (dashed: {best:,}, the checkpoint)')
    axes.xaxis.set_major_formatter(ticker.StrMethodFormatter('{x:,.0f}'))
    if len(series) > 1:
      axes.legend()
    if len(series) == 1:
      axes.set_ylim(bottom=0)
  return svg[0]


def precision_recall(
  name: str, curve: tuple[np.ndarray, np.ndarray], *, trivial: float
) -> str:
  """The curve of a genre, and the precision of the same score for all."""
  with _drawing(f'precision and recall of {name}', 2.2, 1.8) as (axes, svg):
    recalls, precisions = curve
    axes.plot(
      [0, *recalls], [precisions[0], *precisions], color=_MAIN, linewidth=1.3
    )
    axes.axhline(trivial, color=_FAINT, linewidth=0.9, linestyle=(0, (4, 3)))
    axes.set(xlim=(0, 1.01), ylim=(0, 1.02), xlabel='recall')
    axes.set_ylabel('precision')
    for axis in (axes.xaxis, axes.yaxis):
      axis.set_major_locator(ticker.FixedLocator([0, 0.5, 1]))
  return svg[0]


def reliability(scores: np.ndarray, labels: np.ndarray) -> str:
  """The share of positives against the score, over bins of equal width.

  Guo et al., 2017, figure 1, of all (poster, genre) pairs. A dot is as large as
  the bin's share of the pairs, on a logarithmic scale.
  """
  scores, labels = scores.ravel(), labels.ravel()
  bins = np.minimum((scores * _NUM_BINS).astype(int), _NUM_BINS - 1)
  counts = np.bincount(bins, minlength=_NUM_BINS)
  chosen = counts > 0
  means, shares = (
    np.bincount(bins, values, _NUM_BINS)[chosen] / counts[chosen]
    for values in (scores, labels)
  )
  # 95 % of a share of so many, were they independent.
  error = 1.96 * np.sqrt(
    np.maximum(shares * (1 - shares), 1e-9) / counts[chosen]
  )
  with _drawing('Reliability', 4.4, 3.4) as (axes, svg):
    axes.plot(
      [0, 1], [0, 1], color=_FAINT, linewidth=0.9, linestyle=(0, (4, 3))
    )
    axes.errorbar(means, shares, error, fmt='none', ecolor=_BAND, elinewidth=3)
    axes.scatter(
      means, shares, 8 + 12 * np.log10(counts[chosen]), color=_MAIN, zorder=3
    )
    axes.set(xlim=(0, 1), ylim=(0, 1), xlabel='score')
    axes.set_ylabel('share of posters that have the genre')
  return svg[0]


def score_histogram(scores: np.ndarray, labels: np.ndarray) -> str:
  """How often each score is given, to genres that are right and to others."""
  edges = np.linspace(0, 1, 26)
  with _drawing('Scores', 4.4, 3.4) as (axes, svg):
    for is_right, color, label in (
      (False, _SECOND, 'genres that the poster has not'),
      (True, _MAIN, 'genres that it has'),
    ):
      counts, _ = np.histogram(scores[(labels > 0) == is_right], edges)
      axes.stairs(counts, edges, color=color, label=label, linewidth=1.5)
    axes.set_yscale('log')
    axes.yaxis.set_major_formatter(ticker.StrMethodFormatter('{x:,.0f}'))
    axes.set(xlim=(0, 1), xlabel='score')
    axes.set_ylabel('(poster, genre) pairs')
    axes.legend()
  return svg[0]


def score_ranges(
  names: Sequence[str], scores: np.ndarray, labels: np.ndarray
) -> str:
  """The scores of each genre: of posters that have it, and of the others.

  Args:
    names: of the genres.
    scores: [N, L], in the order of the names.
    labels: [N, L] of 0 and 1.

  Returns:
    An SVG; a bar from the 5th to the 95th percentile, and a dot at the median.
  """
  with _drawing('Scores by genre', 5.4, 0.9 + 0.27 * len(names)) as (axes, svg):
    for place, (column, of) in enumerate(zip(scores.T, labels.T, strict=True)):
      for is_right, color, shift in (
        (False, _SECOND, 0.14),
        (True, _MAIN, -0.14),
      ):
        chosen = column[(of > 0) == is_right]
        if len(chosen):
          low, middle, high = np.percentile(chosen, [5, 50, 95])
          axes.hlines(place + shift, low, high, color=color, linewidth=3)
          axes.plot(middle, place + shift, 'o', color=color, markersize=4.5)
    axes.set(xlim=(0, 1), xlabel='score')
    axes.set_yticks(range(len(names)), [_short(name) for name in names])
    axes.invert_yaxis()
    axes.grid(visible=False, axis='y')
  return svg[0]


def genre_matrix(title: str, names: Sequence[str], values: np.ndarray) -> str:
  """A square of genres against genres.

  Args:
    title: says what the values are.
    names: of the genres.
    values: [L, L], in [0, 1]; NaN is left blank.

  Returns:
    An SVG; row i, column j shows values[i, j].
  """
  side = 2.2 + 0.2 * len(names)
  with _drawing(title, side, side) as (axes, svg):
    drawn = axes.pcolormesh(
      np.ma.masked_invalid(values), cmap=_HEAT, vmin=0, vmax=1, linewidth=0
    )
    places = np.arange(len(names)) + 0.5
    shown = [_short(name) for name in names]
    axes.set_xticks(places, shown, rotation=90)
    axes.set_yticks(places, shown)
    axes.invert_yaxis()
    axes.set_aspect('equal')
    axes.grid(visible=False)
    axes.tick_params(length=0)
    axes.spines[:].set_visible(False)
    axes.figure.colorbar(drawn, ax=axes, shrink=0.5, pad=0.02).outline.set(
      visible=False
    )
  return svg[0]


def _short(name: str) -> str:
  return name if len(name) <= 18 else f'{name[:17]}…'


@contextlib.contextmanager
def _drawing(
  title: str, width: float, height: float
) -> Iterator[tuple[matplotlib.axes.Axes, list[str]]]:
  """Axes to draw on; afterwards the list holds the SVG."""
  svg: list[str] = []
  style = {**_STYLE, 'svg.hashsalt': title}
  with matplotlib.rc_context(style), warnings.catch_warnings():
    # A browser has the letters that Matplotlib's font lacks.
    warnings.filterwarnings('ignore', 'Glyph .* missing from font', UserWarning)
    drawn = figure.Figure(figsize=(width, height), layout='constrained')
    yield drawn.subplots(), svg
    svg.append(_to_svg(drawn))


def _to_svg(drawn: figure.Figure) -> str:
  written = io.StringIO()
  nothing = dict.fromkeys(('Creator', 'Date', 'Format', 'Type'))
  drawn.savefig(written, format='svg', transparent=True, metadata=nothing)
  svg = written.getvalue()
  svg = svg[svg.index('<svg') :]
  for color, variable in _VARIABLES.items():
    svg = svg.replace(color, variable)
  # As wide as its place, in the page's own letters, and without rules that
  # would hold for the whole page.
  svg = re.sub(r' (width|height)="[\d.]+pt"', '', svg, count=2)
  svg = re.sub(r"'DejaVu Sans'[^;\"]*", 'inherit', svg)
  svg = re.sub(r'<style.*?</style>', '', svg, flags=re.DOTALL)
  return _with_own_ids(svg)


def _with_own_ids(svg: str) -> str:
  """Names that no other chart of the page has, for what is referred to."""
  names = set(re.findall(r'#([\w-]+)', svg))
  svg = re.sub(
    r' id="([\w.-]+)"', lambda found: found[0] if found[1] in names else '', svg
  )
  digest = checksums.of_json(svg)[:8]
  for name in names:
    for before, after in ((' id="', '"'), ('href="#', '"'), ('url(#', ')')):
      svg = svg.replace(
        f'{before}{name}{after}', f'{before}{digest}-{name}{after}'
      )
  return svg
