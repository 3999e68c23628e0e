"""How every binary starts, and how it fails."""

from collections.abc import Callable, Sequence
import logging as std_logging
import pathlib
import signal
import sys
import warnings

from absl import app
from absl import flags
from absl import logging
import ml_collections

from genre_flax.runtime import errors
from genre_flax.runtime import text

# What flags and overrides that do not fit raise.
_PARSE_ERRORS = (
  flags.Error,
  AttributeError,
  ImportError,
  KeyError,
  OSError,
  OverflowError,
  SyntaxError,
  TypeError,
  ValueError,
)
# Config keys by their former names.
RENAMED_KEYS = {
  'eval_zooms': 'eval_crops',
  'augment.erase': 'augment.random_erasing',
  'augment.mirror': 'augment.horizontal_flip',
  'augment.shift': 'augment.translation',
}
_PACKAGE = pathlib.Path(__file__).parent.parent


def run(main: Callable[[list[str]], int | None]) -> None:
  """Runs a binary's main function under absl.

  A `UserError` ends the program with its status and its message alone; with
  --verbosity=1 and for all other exceptions a traceback is shown.

  Args:
    main: takes the arguments that are no flags, with the program's name first;
      returns the exit status.
  """

  def guarded_main(argv: list[str]) -> int | None:
    try:
      return main(argv)
    except errors.UserError as e:
      if logging.get_verbosity() >= logging.DEBUG:
        raise
      _print_error(str(e))
      return e.exit_status
    except KeyboardInterrupt:
      print('Stopped.', file=sys.stderr)
      return 128 + signal.SIGINT
    except ImportError as e:
      # What fsspec says of the first gs:// path.
      if 'gcsfs' not in str(e) or logging.get_verbosity() >= logging.DEBUG:
        raise
      print(
        'error: Paths on gs:// need another package; install it with `pip'
        " install -e '.[gcs]'`.",
        file=sys.stderr,
      )
      return 2

  sys.unraisablehook = _tell_unraisable
  # Whatever the terminal's encoding lacks is escaped, and no error.
  sys.stdout.reconfigure(errors='backslashreplace')
  app.run(guarded_main, flags_parser=_parse_flags)


def read_config(
  holder: flags.FlagHolder, argv: Sequence[str]
) -> ml_collections.ConfigDict:
  """The config of a binary, with its overrides.

  Args:
    holder: of the flag --config.
    argv: arguments that are no flags, with the program's name first.

  Raises:
    InputError: there is no config, it cannot be read, or there are arguments.
  """
  refuse_arguments(argv)
  if holder.value is None:
    raise errors.InputError(
      '--config is missing; start with --config=configs/quickstart.py'
    )
  try:
    holder.value.seed  # noqa: B018  A file that failed to load raises here.
  except OSError as e:
    raise errors.InputError(f'--config cannot be read. {e}') from e
  return holder.value


def refuse_arguments(argv: Sequence[str]) -> None:
  """Refuses what is no flag, of a binary that takes flags alone.

  Args:
    argv: arguments that are no flags, with the program's name first.

  Raises:
    InputError: there are arguments.
  """
  if len(argv) > 1:
    raise errors.InputError(
      f'Unexpected arguments: {argv[1:]}. Flags start with --, and overrides'
      ' are --config.KEY=VALUE.'
    )


def _parse_flags(argv: Sequence[str]) -> list[str]:
  """Parses the flags; a wrong one is a message, never a traceback."""
  logging.set_verbosity(logging.INFO)
  logging.get_absl_handler().setFormatter(_Formatter())
  logging.get_absl_handler().python_handler.addFilter(_is_worth_showing)
  # Odd metadata, of a file that Pillow does not name; what matters is an error.
  warnings.filterwarnings('ignore', category=UserWarning, module=r'PIL\.')
  try:
    return flags.FLAGS(argv, known_only=False)
  except _PARSE_ERRORS as e:
    _print_error(_explain(e))
    print('Pass --help to see the flags.', file=sys.stderr)
    sys.exit(2)


def _print_error(message: str) -> None:
  # Names in it are the user's: what is no text is not for a terminal to obey.
  shown = text.printable(message, keep='\n')
  print(f'error: {shown}', file=sys.stderr)


def _explain(error: BaseException) -> str:
  cause = error.args[0] if error.args else None
  # ml_collections wraps a KeyError, whose text is quoted, for an unknown key.
  if isinstance(error, AttributeError) and isinstance(cause, KeyError):
    key, _, hint = str(cause.args[0]).partition('\n')
    for old, new in RENAMED_KEYS.items():
      if old.rpartition('.')[2] == key.strip('"\''):
        return f'The config key {old} is now {new}.'
    return f'The config has no key {key}. {hint}'.strip()
  if isinstance(error, KeyError):
    return str(cause)
  return str(error).strip() or type(error).__name__


def _is_worth_showing(record) -> bool:
  """Our own lines, and the warnings of the libraries, which tell too much."""
  is_warning = record.levelno >= std_logging.WARNING
  return (
    # Of tasks that a library left behind where it failed; the error is told.
    (is_warning and record.name != 'concurrent.futures')
    or logging.get_verbosity() >= logging.DEBUG
    or _PACKAGE in pathlib.Path(record.pathname).parents
  )


def _tell_unraisable(unraisable) -> None:
  """Tells of errors that nothing can catch, but for one that says nothing.

  Orbax leaves tasks behind where a file cannot be read or written, on an event
  loop that it has closed.
  """
  if 'Event loop is closed' not in str(unraisable.exc_value):
    sys.__unraisablehook__(unraisable)


class _Formatter(logging.PythonFormatter):
  """Lines a person reads: the time, the level where it matters, the text."""

  def format(self, record) -> str:
    level = '' if record.levelname == 'INFO' else f'{record.levelname}: '
    message = text.printable(record.getMessage(), keep='\n')
    return f'{self.formatTime(record, "%H:%M:%S")} {level}{message}'
