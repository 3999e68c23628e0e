"""What a benchmark found: medians, spreads and ratios, as a table."""

from collections.abc import Iterable, Sequence
import dataclasses
import statistics
from typing import Any

from benchmarks import contenders


@dataclasses.dataclass(frozen=True)
class Metric:
  """A number that a measurement gives.

  Attributes:
    measurement: that gives it.
    name: of the value.
    title: in words, with the unit.
    is_higher_better: or lower.
  """

  measurement: str
  name: str
  title: str
  is_higher_better: bool


METRICS = (
  Metric('step', 'training_images_per_second', 'training, images/s', True),
  Metric('step', 'inference_images_per_second', 'inference, images/s', True),
  Metric('step', 'compile_seconds', 'compiling the training step, s', False),
  Metric('step', 'tflops_per_second', 'training, TFLOP/s a device', True),
  Metric('step', 'peak_flops_share', 'share of its bfloat16 peak', True),
  Metric('step', 'peak_device_memory_gb', 'most device memory, GB', False),
  Metric('input', 'images_per_second', 'input pipeline alone, images/s', True),
  Metric('epoch', 'seconds', 'one epoch from files, s', False),
  Metric('epoch', 'peak_memory_gb', 'most memory of that epoch, GB', False),
  Metric('quickstart', 'seconds', 'first loss of the quickstart, s', False),
  Metric('growth', 'milliseconds_per_image', 'input, ms an image', False),
  Metric('growth', 'peak_memory_gb', 'most memory of input, GB', False),
)


def summarize(results: Iterable[dict[str, Any]]) -> list[dict[str, Any]]:
  """Medians and spreads over the repetitions, and ratios.

  Args:
    results: each with 'contender', 'variant', 'measurement', and 'values'.

  Returns:
    In the order of METRICS and then of `results`, each with 'metric',
    'contender', 'variant', 'median', 'low', 'high', 'repetitions', and 'ratio':
    how many times better genre_flax is than this one, None where one of the two
    is not there or they ran on unlike platforms. Of 'growth' it is how many
    times this one's value the first one's is.
  """
  grouped: dict[tuple, list[dict[str, Any]]] = {}
  for result in results:
    key = (result['measurement'], result['contender'], result['variant'])
    grouped.setdefault(key, []).append(result['values'])
  rows = []
  for metric in METRICS:
    of_metric = [
      _row(metric, contender, variant, values)
      for (measurement, contender, variant), values in grouped.items()
      if measurement == metric.measurement and metric.name in values[0]
    ]
    rows += [
      {**row, 'ratio': _ratio(metric, row, of_metric[0])} for row in of_metric
    ]
  return rows


def _row(metric, contender, variant, values):
  numbers = [one[metric.name] for one in values]
  return {
    'measurement': metric.measurement,
    'metric': metric.name,
    'title': metric.title,
    'contender': contender,
    'variant': variant,
    'platform': values[0].get('platform'),
    'median': statistics.median(numbers),
    'low': min(numbers),
    'high': max(numbers),
    'repetitions': len(numbers),
  }


def _ratio(metric, row, first):
  """How many times better `first`, which is genre_flax, is than `row`."""
  if row is first or first['contender'] != contenders.OWN:
    return None
  if row['platform'] != first['platform'] or not row['median']:
    return None
  if not metric.is_higher_better:
    return row['median'] / first['median'] if first['median'] else None
  return first['median'] / row['median']


def format_table(rows: Sequence[dict[str, Any]]) -> str:
  """The rows of `summarize` as a Markdown table that is aligned."""
  cells = [['measure', 'contender', 'median', 'lowest to highest', 'ratio']]
  for number, row in enumerate(rows):
    is_first = number == 0 or rows[number - 1]['title'] != row['title']
    spread = f'{_show(row["low"])} to {_show(row["high"])}'
    cells.append(
      [
        row['title'] if is_first else '',
        f'{row["contender"]} ({row["variant"]})',
        _show(row['median']),
        spread if row['repetitions'] > 1 else '',
        '' if row['ratio'] is None else f'{row["ratio"]:.2f}',
      ]
    )
  widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
  lines = [
    f'| {" | ".join(map(_pad, line, widths, range(len(line))))} |'
    for line in cells
  ]
  rule = [
    '-' * width if i < 2 else '-' * (width - 1) + ':'
    for i, width in enumerate(widths)
  ]
  return '\n'.join([lines[0], f'| {" | ".join(rule)} |', *lines[1:]])


def _pad(text, width, column):
  return text.ljust(width) if column < 2 else text.rjust(width)


def _show(value: float) -> str:
  """Two or three significant digits."""
  digits = sum(abs(value) < bound for bound in (100, 10, 0.1))
  return f'{value:,.{digits}f}'
