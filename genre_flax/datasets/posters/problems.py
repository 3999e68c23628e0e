"""Problems of the rows and images of a dataset, listed one by one."""

import collections
from collections.abc import Sequence
import csv
import dataclasses
import io

from genre_flax.runtime import text as text_lib

_NUM_IN_SUMMARY = 10


@dataclasses.dataclass(frozen=True, order=True)
class Problem:
  """One problem of one row of a CSV file.

  Attributes:
    file: the CSV file.
    row: number of the row as in a spreadsheet: the header is row 1.
    kind: a short name that problems are counted by, such as 'missing image'.
    reason: the given value and the expected one.
  """

  file: str
  row: int
  kind: str
  reason: str


def count_by_kind(problems: Sequence[Problem]) -> dict[str, int]:
  """Number of problems of each kind, the most frequent first."""
  counts = collections.Counter(problem.kind for problem in problems)
  return dict(sorted(counts.items(), key=lambda item: (-item[1], item[0])))


def summarize(problems: Sequence[Problem]) -> str:
  """The counts by kind and the first few problems, as lines of text."""
  lines = [f'{len(problems)} problem(s):']
  lines += [
    f'  {count:6d}  {kind}' for kind, count in count_by_kind(problems).items()
  ]
  shown = problems[:_NUM_IN_SUMMARY]
  if len(shown) < len(problems):
    lines.append(f'The first {len(shown)}:')
  for problem in shown:
    reason = text_lib.printable(problem.reason)
    lines.append(f'  {problem.file}, row {problem.row}: {reason}')
  return '\n'.join(lines)


def to_csv(problems: Sequence[Problem]) -> str:
  """All problems as CSV text with the columns file, row, kind, reason."""
  text = io.StringIO()
  writer = csv.writer(text, lineterminator='\n')
  writer.writerow([field.name for field in dataclasses.fields(Problem)])
  for problem in problems:
    cells = map(str, dataclasses.astuple(problem))
    writer.writerow(map(text_lib.for_spreadsheet, cells))
  return text.getvalue()


def from_csv(text: str) -> tuple[Problem, ...]:
  """The problems in the CSV text of `to_csv`, which returns it again."""
  return tuple(
    Problem(row['file'], int(row['row']), row['kind'], row['reason'])
    for row in csv.DictReader(io.StringIO(text, newline=''))
  )
