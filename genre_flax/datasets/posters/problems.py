"""What is wrong with the rows and images of a data set, named one by one."""

from collections.abc import Sequence
import csv
import dataclasses
import io

from genre_flax.runtime import text as text_lib


@dataclasses.dataclass(frozen=True, order=True)
class Problem:
  """One fault of one row of a CSV file.

  Attributes:
    file: the CSV or image file at fault.
    row: the row of the CSV as a spreadsheet counts it: the header is row 1.
    kind: a short name that problems are counted by, such as 'truncated image'.
    reason: what was got, what was expected.
  """

  file: str
  row: int
  kind: str
  reason: str


def count_by_kind(problems: Sequence[Problem]) -> dict[str, int]:
  """Number of problems of each kind, the most frequent first."""
  counts: dict[str, int] = {}
  for problem in problems:
    counts[problem.kind] = counts.get(problem.kind, 0) + 1
  return dict(sorted(counts.items(), key=lambda item: (-item[1], item[0])))


def summarize(problems: Sequence[Problem], *, first: int = 10) -> str:
  """The count by kind and the first few problems, to print.

  Args:
    problems: at least one.
    first: how many to spell out.
  """
  lines = [f'{len(problems)} problem(s):']
  lines += [
    f'  {count:6d}  {kind}' for kind, count in count_by_kind(problems).items()
  ]
  shown = problems[:first]
  lines.append(
    'The first of them:' if len(shown) < len(problems) else 'They are:'
  )
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
    cells = (problem.file, problem.kind, problem.reason)
    file, kind, reason = map(text_lib.for_spreadsheet, cells)
    writer.writerow([file, problem.row, kind, reason])
  return text.getvalue()
