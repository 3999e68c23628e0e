"""Medians, ranges and ratios of a benchmark, as a table."""

from collections.abc import Iterable, Sequence
import statistics
from typing import Any, NamedTuple

from benchmarks import libraries


class Metric(NamedTuple):
  """A value of a measurement.

  Attributes:
    measurement: such as 'step'.
    name: of the value.
    title: description with the unit.
    higher_is_better: direction of the ratio.
  """

  measurement: str
  name: str
  title: str
  higher_is_better: bool


METRICS = (
  Metric('step', 'training_images_per_second', 'training, images/s', True),
  Metric('step', 'inference_images_per_second', 'inference, images/s', True),
  Metric('step', 'compile_seconds', 'compiling the training step, s', False),
  Metric('step', 'tflops_per_second', 'training, TFLOP/s per device', True),
  Metric('step', 'peak_flops_share', 'share of the bfloat16 peak', True),
  Metric('step', 'peak_device_memory_gb', 'peak device memory, GB', False),
  Metric('input', 'images_per_second', 'input pipeline, images/s', True),
  Metric('input', 'peak_memory_gb', 'input pipeline, peak memory, GB', False),
  Metric('epoch', 'seconds', 'one epoch from files, s', False),
  Metric('epoch', 'peak_memory_gb', 'one epoch, peak memory, GB', False),
)


def summarize(results: Iterable[dict[str, Any]]) -> list[dict[str, Any]]:
  """Medians and ranges over the repetitions, and ratios.

  Args:
    results: dicts with 'measurement', 'library', 'variant' and 'values'.

  Returns:
    Rows in the order of METRICS and then of `results`, with 'measurement',
    'metric', 'title', 'library', 'variant', 'platform', 'median', 'low',
    'high', 'num_repetitions' and 'ratio': the factor by which genre_flax is
    better; None for genre_flax and across platforms.
  """
  grouped: dict[tuple, list[dict[str, Any]]] = {}
  for result in results:
    key = (result['measurement'], result['library'], result['variant'])
    grouped.setdefault(key, []).append(result['values'])
  rows = []
  for metric in METRICS:
    own = None
    for (measurement, library, variant), values in grouped.items():
      if measurement != metric.measurement or metric.name not in values[0]:
        continue
      numbers = [value[metric.name] for value in values]
      row = {
        'measurement': measurement,
        'metric': metric.name,
        'title': metric.title,
        'library': library,
        'variant': variant,
        'platform': values[0].get('platform'),
        'median': statistics.median(numbers),
        'low': min(numbers),
        'high': max(numbers),
        'num_repetitions': len(numbers),
        'ratio': None,
      }
      if library == libraries.OWN:
        own = row
      elif own is not None and own['platform'] == row['platform']:
        row['ratio'] = _ratio(metric, own['median'], row['median'])
      rows.append(row)
  return rows


def _ratio(metric, own, other):
  better, worse = (own, other) if metric.higher_is_better else (other, own)
  return better / worse if worse else None


def format_table(rows: Sequence[dict[str, Any]]) -> str:
  """The rows of `summarize` as an aligned Markdown table."""
  cells = [['metric', 'library', 'median', 'range', 'ratio']]
  title = None
  for row in rows:
    spread = f'{_format(row["low"])} to {_format(row["high"])}'
    cells.append(
      [
        row['title'] if row['title'] != title else '',
        f'{row["library"]} ({row["variant"]})',
        _format(row['median']),
        spread if row['num_repetitions'] > 1 else '',
        '' if row['ratio'] is None else f'{row["ratio"]:.2f}',
      ]
    )
    title = row['title']
  widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
  cells.insert(1, ['-' * width for width in widths])
  lines = []
  for line in cells:
    padded = [
      cell.ljust(width) if column < 2 else cell.rjust(width)
      for column, (cell, width) in enumerate(zip(line, widths, strict=True))
    ]
    lines.append(f'| {" | ".join(padded)} |')
  return '\n'.join(lines)


def _format(value: float) -> str:
  """Two or three significant digits."""
  digits = sum(abs(value) < bound for bound in (100, 10, 0.1))
  return f'{value:,.{digits}f}'
