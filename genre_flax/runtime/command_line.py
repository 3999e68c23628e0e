"""Start of programs, parsing of flags, and display of errors and logs."""

from collections.abc import Callable, Sequence
import functools
import logging as std_logging
import os
import pathlib
import re
import signal
import sys
import traceback
import warnings

from absl import app
from absl import flags
from absl import logging
import ml_collections

from genre_flax.runtime import errors
from genre_flax.runtime import text

# Raised by invalid flags and overrides.
PARSE_ERRORS = (
  *(flags.Error, AttributeError, KeyError, OverflowError),
  *(TypeError, ValueError),
)
# Modules of JAX that read its variables and start its backends.
_JAX_START = ('jax._src.config', 'jax._src.xla_bridge')
_NO_PLUGIN = re.compile('known backends|cannot open shared object')
_ROOT = pathlib.Path(__file__).parents[2]
# Messages of these packages are shown.
_SHOWN = {_ROOT / 'genre_flax', _ROOT / 'launch'}


def run(
  main: Callable[[list[str]], int | None],
  *,
  known_only: bool = False,
  launches: bool = False,
) -> None:
  """Runs the main function of a program under absl.

  A `UserError` ends the program with its message and status. Other exceptions,
  and all with --verbosity=1, show a traceback.

  Args:
    main: receives the program's name and the arguments that are not flags, and
      returns the exit status.
    known_only: whether flags that the program does not define are among the
      arguments of `main`, and not errors.
    launches: whether the program launches another, whose flags follow --; they
      are the arguments of `main`.
  """
  passed = []
  if launches and '--' in sys.argv:
    place = sys.argv.index('--')
    # ml_collections reads overrides of configs from here.
    passed, sys.argv[place:] = sys.argv[place + 1 :], []

  def guarded_main(argv: list[str]) -> int | None:
    try:
      if launches:
        refuse_arguments(argv)
      return main([*argv, *passed])
    except KeyboardInterrupt:
      print('Stopped.', file=sys.stderr)
      return 128 + signal.SIGINT
    except Exception as e:
      error = _as_user_error(e)
      if error is None or logging.get_verbosity() >= logging.DEBUG:
        raise
      _print_error(str(error))
      return error.exit_status

  sys.unraisablehook = _report_unraisable
  # Characters that the terminal's encoding lacks are escaped.
  sys.stdout.reconfigure(errors='backslashreplace')
  parse = functools.partial(_parse_flags, known_only=known_only)
  app.run(guarded_main, flags_parser=parse)


def read_config(
  holder: flags.FlagHolder, argv: Sequence[str]
) -> ml_collections.ConfigDict:
  """Returns the value of the flag --config, with its overrides.

  Raises:
    InputError: The config is missing, or there are arguments.
  """
  refuse_arguments(argv)
  if holder.value is None:
    raise errors.InputError(
      '--config is missing; start with --config=configs/quickstart.py'
    )
  return holder.value


def refuse_arguments(argv: Sequence[str]) -> None:
  """Raises InputError for arguments, in a program that only has flags."""
  if len(argv) > 1:
    raise errors.InputError(
      f'Unexpected arguments: {argv[1:]}. Flags start with --, and overrides'
      ' are --config.KEY=VALUE.'
    )


def _as_user_error(error: Exception) -> errors.UserError | None:
  """An error that the user can fix; None for one of the program."""
  if isinstance(error, errors.UserError):
    return error
  message = explain(error)
  if isinstance(error, ImportError) and 'gcsfs' in message:  # Of fsspec.
    return errors.InputError("gs:// paths need pip install -e '.[gcs]'")
  *_, (frame, _) = traceback.walk_tb(error.__traceback__)
  if frame.f_globals.get('__name__') not in _JAX_START:
    return None
  given = [f'{k}={v}' for k, v in os.environ.items() if k.startswith('JAX_')]
  is_busy = 'initialize backend' in message and not _NO_PLUGIN.search(message)
  return (errors.ResourceError if is_busy else errors.InputError)(
    f'JAX cannot start: {message.rstrip(".")}. Check the variables:'
    f' {", ".join(given) or "none is set"}.'
  )


def _parse_flags(argv: Sequence[str], *, known_only: bool = False) -> list[str]:
  """Parses the flags; an invalid one ends the program with a message."""
  logging.set_verbosity(logging.INFO)
  handler = logging.get_absl_handler()
  handler.setFormatter(_Formatter())
  handler.python_handler.addFilter(_is_shown)
  # Pillow's warnings about metadata do not name the file.
  warnings.filterwarnings('ignore', category=UserWarning, module=r'PIL\.')
  if not {'--help', '-help', '-h', '-?'}.isdisjoint(argv):
    app.usage(shorthelp=True, writeto_stdout=True, exitcode=0)
  try:
    return flags.FLAGS(argv, known_only=known_only)
  except PARSE_ERRORS as e:
    _print_error(explain(e))
    print('Pass --help to see the flags.', file=sys.stderr)
    sys.exit(errors.InputError.exit_status)


def _print_error(message: str) -> None:
  # Escaped, since messages quote names from users.
  shown = text.printable(message, keep='\n')
  print(f'error: {shown}', file=sys.stderr)


def explain(error: BaseException) -> str:
  """The message of an exception of flags, configs and their overrides."""
  # absl describes errors of parsers again.
  if isinstance(error.__context__, errors.UserError):
    return str(error.__context__)
  cause = error.args[0] if error.args else None
  # For an unknown key ml_collections wraps a KeyError, whose str is quoted.
  if isinstance(cause, KeyError):
    error, cause = cause, cause.args[0]
  message = str(cause if isinstance(error, KeyError) else error)
  return message.strip() or type(error).__name__


def _is_shown(record: std_logging.LogRecord) -> bool:
  """Whether a record is from our packages, or a warning of a library."""
  is_warning = record.levelno >= std_logging.WARNING
  return (
    # Except for tasks of Orbax that failed; the error itself is shown.
    (is_warning and record.name != 'concurrent.futures')
    or logging.get_verbosity() >= logging.DEBUG
    or not _SHOWN.isdisjoint(pathlib.Path(record.pathname).parents)
  )


def _report_unraisable(unraisable) -> None:
  # If a file cannot be read or written, Orbax leaves tasks on a closed loop.
  if 'Event loop is closed' not in str(unraisable.exc_value):
    sys.__unraisablehook__(unraisable)


class _Formatter(logging.PythonFormatter):
  """Formats a record as its time, its level above INFO, and its message."""

  def format(self, record) -> str:
    level = '' if record.levelname == 'INFO' else f'{record.levelname}: '
    message = text.printable(record.getMessage(), keep='\n')
    return f'{self.formatTime(record, "%H:%M:%S")} {level}{message}'
