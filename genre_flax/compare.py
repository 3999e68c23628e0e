r"""Compares groups of runs on the same posters, or lists runs.

python -m genre_flax.compare 'probe=runs/probe_s*' 'cnn=runs/cnn_s*'
python -m genre_flax.compare --list runs

A group is a name and a pattern of workdirs, such as the seeds of a method, or a
workdir. Each group is compared with the first, from the predictions of the best
checkpoints, which trainings with a test split and `genre_flax.top3` store.
"""

import glob
import os

from absl import flags

from genre_flax.runtime import command_line
from genre_flax.runtime import errors
from genre_flax.runtime import platform
from genre_flax.runtime import shared_flags

_FORMAT = flags.DEFINE_enum(
  'format', 'text', ['text', 'csv', 'latex', 'json'], 'Format of the tables.'
)
_SPLIT = flags.DEFINE_string('split', 'test', 'Split to compare on.')
_METRICS = flags.DEFINE_list(
  'metrics', None, 'Metrics, such as mean_average_precision; default: all.'
)
_LIST = flags.DEFINE_string(
  'list', None, 'List the runs below this folder instead of comparing runs.'
)
_BOOTSTRAP_SAMPLES = shared_flags.bootstrap_samples()


def main(argv: list[str]) -> int:
  if bool(_LIST.value) == bool(argv[1:]):
    raise errors.InputError(
      "Expected either groups of runs, such as 'cnn=runs/cnn_s*', or --list"
      ' with a folder.'
    )
  platform.configure()

  # After the platform is set: these import jax.
  from genre_flax.evaluation import comparison
  from genre_flax.reports import run_tables

  if _LIST.value:
    runs = run_tables.list_runs(os.path.expanduser(_LIST.value))
    print(run_tables.format_table(runs, _FORMAT.value), end='')
    return 0
  compared = comparison.compare(
    _parse_groups(argv[1:]),
    split=_SPLIT.value,
    names=_METRICS.value,
    num_samples=_BOOTSTRAP_SAMPLES.value,
  )
  print(run_tables.format_comparison(compared, _FORMAT.value), end='')
  return 0


def _parse_groups(arguments: list[str]) -> dict[str, list[str]]:
  """The workdirs by name, of arguments NAME=PATTERN or WORKDIR."""
  groups = {}
  for argument in arguments:
    name, separator, pattern = argument.rpartition('=')
    workdirs = sorted(glob.glob(os.path.expanduser(pattern)))
    if not workdirs:
      raise errors.InputError(f'There is no workdir {pattern!r}.')
    if not separator:
      name = os.path.basename(os.path.abspath(pattern))
    if name in groups:
      raise errors.InputError(
        f'Two groups are called {name!r}; name them, as NAME=PATTERN.'
      )
    groups[name] = workdirs
  return groups


if __name__ == '__main__':
  command_line.run(main)
