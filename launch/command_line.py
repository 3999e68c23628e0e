"""How the programs of this package start, and how they fail."""

from collections.abc import Callable, Sequence
import sys

from absl import app
from absl import flags
from absl import logging

from launch import errors


def run(main: Callable[[list[str]], int]) -> None:
  """Runs a program; a LaunchError ends it with its message and status.

  Args:
    main: takes the arguments after a lone --, which are the flags of what the
      program launches; returns the exit status.
  """
  # ml_collections would read overrides of its config behind the -- too.
  own, passed_on = _split(sys.argv)
  sys.argv[:] = own

  def guarded_main(argv: list[str]) -> int:
    try:
      if len(argv) > 1:
        raise errors.InputError(
          f'Unexpected arguments: {argv[1:]}. Flags start with --, and those of'
          ' what is launched come after a lone --.'
        )
      return main(passed_on)
    except errors.LaunchError as e:
      print(f'error: {e}', file=sys.stderr)
      return e.exit_status

  logging.set_verbosity(logging.INFO)
  app.run(guarded_main, argv=own, flags_parser=_parse_flags)


def _split(argv: Sequence[str]) -> tuple[list[str], list[str]]:
  """The arguments before and after the first lone --."""
  if '--' not in argv:
    return list(argv), []
  place = argv.index('--')
  return list(argv[:place]), list(argv[place + 1 :])


def _parse_flags(argv: Sequence[str]) -> list[str]:
  """Parses the flags; a wrong one is a message, never a traceback."""
  try:
    return flags.FLAGS(argv)
  except (
    flags.Error,
    # Of a config file that does not load, and of overrides that do not fit it.
    AttributeError,
    ImportError,
    KeyError,
    OSError,
    TypeError,
    ValueError,
  ) as e:
    text = ' '.join(str(e).split()) or type(e).__name__
    print(f'error: {text}', file=sys.stderr)
    print('Pass --help to see the flags.', file=sys.stderr)
    sys.exit(2)
