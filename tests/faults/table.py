"""Makes a table in Markdown of the counts that drills left in a file."""

import json
import pathlib
import sys


def to_markdown(lines: list[dict]) -> str:
  """A row for each drill; of one that ran twice, the later counts."""
  latest = {(line['group'], line['drill']): line['outcomes'] for line in lines}
  rows = ['| what was done | to | cases | how they came out |']
  rows.append('| --- | --- | ---: | --- |')
  for (group, drill), outcomes in sorted(latest.items()):
    by_number = sorted(outcomes.items(), key=lambda item: -item[1])
    words = ', '.join(f'{count:,} {outcome}' for outcome, count in by_number)
    if len(by_number) == 1:
      words = by_number[0][0]
    rows.append(f'| {group} | {drill} | {sum(outcomes.values()):,} | {words} |')
  return '\n'.join(rows) + '\n'


if __name__ == '__main__':
  text = pathlib.Path(sys.argv[1]).read_text(encoding='utf-8')
  print(to_markdown([json.loads(line) for line in text.splitlines()]), end='')
