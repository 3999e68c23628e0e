"""Errors that a user can fix, shown without a traceback, and exit statuses.

Messages state the given value, the expected one and the remedy. Errors of the
program itself are other exceptions and keep their traceback. Launchers and
sweeps decide by the exit status whether to run a program again; the table in
docs/training.md lists all statuses.
"""

import errno

# Of the machine: they do not prove damage to a file.
_TRANSIENT_ERRNOS = (
  errno.EACCES,
  errno.EMFILE,
  errno.ENFILE,
  errno.ENOMEM,
  errno.ESTALE,
  errno.ETIMEDOUT,
)


class UserError(Exception):
  """Base class: an error that ends a program with its message only.

  Attributes:
    exit_status: Exit status of the program.
  """

  exit_status = 1


class InputError(UserError, ValueError):
  """A flag, a config value or a file from the user cannot be used."""

  exit_status = 2


class DamageError(InputError):
  """The content of a file was changed after it was written."""


class DivergedError(UserError, FloatingPointError):
  """A training metric became NaN or infinite."""

  exit_status = 65


class ResourceError(UserError):
  """Machines, memory or a tool are unavailable; trying again may help."""

  exit_status = 69


class BusyError(UserError):
  """Another program uses the same folder."""

  exit_status = 73


class StorageError(UserError, OSError):
  """A disk is full, read-only or missing; trying again may help."""

  exit_status = 74


class StalledError(UserError):
  """A training made no progress; run again, it resumes.

  The watchdog ends the process with its status, without raising it.
  """

  exit_status = 75


# The same command would fail again.
PERMANENT_STATUSES = (InputError.exit_status, DivergedError.exit_status)
# The same command may succeed; a training resumes from its checkpoint.
TEMPORARY_STATUSES = (ResourceError.exit_status, StalledError.exit_status)


def is_transient(error: Exception) -> bool:
  """Whether an error of reading is due to the machine, not to the file."""
  return isinstance(error, MemoryError | ResourceError) or (
    isinstance(error, OSError) and error.errno in _TRANSIENT_ERRNOS
  )
