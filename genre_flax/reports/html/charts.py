"""The charts of the report: SVG with the colors of the page.

Matplotlib draws with placeholder colors, which are replaced by the variables of
report.css, so that the charts follow the light or dark theme.
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

from genre_flax.reports.html import runs

_NAMES = ('ink', 'faint', 'grid', 'main', 'second', 'band')
_PLACEHOLDERS = tuple(f'#{i:06x}' for i in range(1, len(_NAMES) + 1))
_INK, _FAINT, _GRID, _MAIN, _SECOND, _BAND = _PLACEHOLDERS
_STYLE = {
  'svg.fonttype': 'none',
  # Names of genres are text, not formulas.
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
_DASHED = {'color': _FAINT, 'linewidth': 0.9, 'linestyle': (0, (4, 3))}
_NUM_BINS = 15


def training_curves(run: runs.Run) -> dict[str, str]:
  """Loss, metrics, learning rate and images/s by step.

  Returns:
    {title: SVG} of the curves that were recorded.
  """
  split = str(run.predictor.config.dataset.validation_split)
  curves = {
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
  charts = {}
  for title, lines in curves.items():
    series = [
      (label, run.series(of, name), color) for label, of, name, color in lines
    ]
    if not any(points for _, points, _ in series):
      continue
    with _chart(4.4, 2.7) as (axes, svg):
      for label, points, color in series:
        if points:
          style = '-' if len(points) > 1 else 'o'
          axes.plot(*zip(*points, strict=True), style, color=color, label=label)
      axes.axvline(run.predictor.step, **_DASHED)
      axes.set_xlabel(f'step (dashed: {run.predictor.step:,}, the checkpoint)')
      axes.xaxis.set_major_formatter(ticker.StrMethodFormatter('{x:,.0f}'))
      if len(series) > 1:
        axes.legend()
      else:
        axes.set_ylim(bottom=0)
    charts[title] = svg[0]
  return charts


def precision_recall(
  recalls: np.ndarray, precisions: np.ndarray, *, baseline: float
) -> str:
  """The precision-recall curve of a genre, with the constant baseline."""
  with _chart(2.2, 1.8) as (axes, svg):
    axes.plot(
      [0, *recalls], [precisions[0], *precisions], color=_MAIN, linewidth=1.3
    )
    axes.axhline(baseline, **_DASHED)
    axes.set(xlim=(0, 1.01), ylim=(0, 1.02))
    axes.set(xlabel='recall', ylabel='precision')
    for axis in (axes.xaxis, axes.yaxis):
      axis.set_major_locator(ticker.FixedLocator([0, 0.5, 1]))
  return svg[0]


def reliability(scores: np.ndarray, labels: np.ndarray) -> str:
  """The reliability diagram of scores and labels [N, L], as SVG.

  Guo et al., 2017, figure 1: the share of positives by score, in bins of equal
  width, with 95 % intervals. The size of a dot grows with the logarithm of the
  number of pairs in the bin.
  """
  scores, labels = scores.ravel(), labels.ravel()
  bins = np.minimum((scores * _NUM_BINS).astype(int), _NUM_BINS - 1)
  counts = np.bincount(bins, minlength=_NUM_BINS)
  chosen = counts > 0
  means, shares = (
    np.bincount(bins, values, _NUM_BINS)[chosen] / counts[chosen]
    for values in (scores, labels)
  )
  # Binomial, as if the pairs were independent.
  error = 1.96 * np.sqrt(
    np.maximum(shares * (1 - shares), 1e-9) / counts[chosen]
  )
  with _chart(4.4, 3.4) as (axes, svg):
    axes.plot([0, 1], [0, 1], **_DASHED)
    axes.errorbar(means, shares, error, fmt='none', ecolor=_BAND, elinewidth=3)
    axes.scatter(
      means, shares, 8 + 12 * np.log10(counts[chosen]), color=_MAIN, zorder=3
    )
    axes.set(xlim=(0, 1), ylim=(0, 1))
    axes.set(xlabel='score', ylabel='share of posters with the genre')
  return svg[0]


def score_histogram(scores: np.ndarray, labels: np.ndarray) -> str:
  """Histograms of the scores [N, L] of correct and of other genres."""
  edges = np.linspace(0, 1, 26)
  with _chart(4.4, 3.4) as (axes, svg):
    for has_genre, color, label in (
      (False, _SECOND, 'posters without the genre'),
      (True, _MAIN, 'posters with the genre'),
    ):
      counts, _ = np.histogram(scores[(labels > 0) == has_genre], edges)
      axes.stairs(counts, edges, color=color, label=label, linewidth=1.5)
    axes.set_yscale('log')
    axes.yaxis.set_major_formatter(ticker.StrMethodFormatter('{x:,.0f}'))
    axes.set(xlim=(0, 1), xlabel='score', ylabel='(poster, genre) pairs')
    axes.legend()
  return svg[0]


def score_ranges(
  names: Sequence[str], scores: np.ndarray, labels: np.ndarray
) -> str:
  """The ranges of the scores of each genre, for posters with and without it.

  Returns:
    An SVG; lines from the 5th to the 95th percentile, dots at the median.
  """
  with _chart(5.4, 0.9 + 0.27 * len(names)) as (axes, svg):
    for row, (column, has_genre) in enumerate(
      zip(scores.T, labels.T > 0, strict=True)
    ):
      for chosen, color, y in (
        (column[~has_genre], _SECOND, row + 0.14),
        (column[has_genre], _MAIN, row - 0.14),
      ):
        if len(chosen):
          low, median, high = np.percentile(chosen, [5, 50, 95])
          axes.hlines(y, low, high, color=color, linewidth=3)
          axes.plot(median, y, 'o', color=color, markersize=4.5)
    axes.set(xlim=(0, 1), xlabel='score')
    axes.set_yticks(range(len(names)), [_shorten(name) for name in names])
    axes.invert_yaxis()
    axes.grid(visible=False, axis='y')
  return svg[0]


def genre_matrix(names: Sequence[str], values: np.ndarray) -> str:
  """A heat map of genres by genres.

  Args:
    names: of the genres.
    values: [L, L] in [0, 1]; NaN is left blank.

  Returns:
    An SVG; row i, column j shows values[i, j].
  """
  side = 2.2 + 0.2 * len(names)
  with _chart(side, side) as (axes, svg):
    mesh = axes.pcolormesh(
      np.ma.masked_invalid(values), cmap='viridis', vmin=0, vmax=1, linewidth=0
    )
    places = np.arange(len(names)) + 0.5
    labels = [_shorten(name) for name in names]
    axes.set_xticks(places, labels, rotation=90)
    axes.set_yticks(places, labels)
    axes.invert_yaxis()
    axes.set_aspect('equal')
    axes.grid(visible=False)
    axes.tick_params(length=0)
    axes.spines[:].set_visible(False)
    colorbar = axes.figure.colorbar(mesh, ax=axes, shrink=0.5, pad=0.02)
    colorbar.outline.set(visible=False)
  return svg[0]


def _shorten(name: str) -> str:
  return name if len(name) <= 18 else f'{name[:17]}…'


@contextlib.contextmanager
def _chart(
  width: float, height: float
) -> Iterator[tuple[matplotlib.axes.Axes, list[str]]]:
  """Axes to draw on; the SVG is appended to the list afterwards."""
  svg: list[str] = []
  with matplotlib.rc_context(_STYLE), warnings.catch_warnings():
    # A browser has the glyphs that the font of Matplotlib lacks.
    warnings.filterwarnings('ignore', 'Glyph .* missing from font', UserWarning)
    chart = figure.Figure(figsize=(width, height), layout='constrained')
    yield chart.subplots(), svg
    file = io.StringIO()
    metadata = dict.fromkeys(('Creator', 'Date', 'Format', 'Type'))
    chart.savefig(file, format='svg', transparent=True, metadata=metadata)
  content = file.getvalue()
  content = content[content.index('<svg') :]
  for color, name in zip(_PLACEHOLDERS, _NAMES, strict=True):
    content = content.replace(color, f'var(--{name})')
  # The size and the font are those of the page. A style element would apply to
  # the whole page. Ids that are not referenced are the same in all charts.
  content = re.sub(r' (width|height)="[\d.]+pt"', '', content, count=2)
  content = re.sub(r"'DejaVu Sans'[^;\"]*", 'inherit', content)
  content = re.sub(r'<style.*?</style>', '', content, flags=re.DOTALL)
  names = set(re.findall(r'#([\w-]+)', content))
  svg.append(
    re.sub(
      r' id="([\w.-]+)"', lambda id_: id_[0] if id_[1] in names else '', content
    )
  )
