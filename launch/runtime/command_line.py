"""How the programs of this package start, and how they fail."""

from collections.abc import Callable, Sequence
import functools
import logging as std_logging
import sys

from absl import app
from absl import flags
from absl import logging

from genre_flax.runtime import errors


def run(
  main: Callable[[list[str]], int], *, passes_unknown: bool = False
) -> None:
  """Runs a program; a UserError ends it with its message and status.

  Args:
    main: takes the flags of what the program launches: the arguments after a
      lone --; returns the exit status.
    passes_unknown: whether flags that the program does not know are among them.
  """
  # ml_collections would read overrides of its config behind the -- too.
  own, passed_on = _split(sys.argv)
  sys.argv[:] = own

  def guarded_main(argv: list[str]) -> int:
    try:
      stray = [arg for arg in argv[1:] if not arg.startswith('-')]
      if stray:
        raise errors.InputError(
          f'Unexpected arguments: {stray}. Flags start with --, and those of'
          ' what is launched go after a lone --.'
        )
      return main([*argv[1:], *passed_on])
    except errors.UserError as e:
      print(f'error: {e}', file=sys.stderr)
      return e.exit_status

  logging.set_verbosity(logging.INFO)
  logging.get_absl_handler().setFormatter(
    std_logging.Formatter('%(asctime)s %(message)s', '%H:%M:%S')
  )
  app.run(
    guarded_main,
    argv=own,
    flags_parser=functools.partial(_parse_flags, known_only=passes_unknown),
  )


def _split(argv: Sequence[str]) -> tuple[list[str], list[str]]:
  """The arguments before and after the first lone --."""
  if '--' not in argv:
    return list(argv), []
  place = argv.index('--')
  return list(argv[:place]), list(argv[place + 1 :])


def _parse_flags(argv: Sequence[str], *, known_only: bool) -> list[str]:
  """Parses the flags; a wrong one is a message, never a traceback."""
  try:
    return flags.FLAGS(argv, known_only=known_only)
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
    hint = 'Pass --help to see the flags.'
    if isinstance(e, flags.UnrecognizedFlagError):
      hint += ' Those of what is launched go after a lone --.'
    print(f'error: {text}\n{hint}', file=sys.stderr)
    sys.exit(errors.InputError.exit_status)
