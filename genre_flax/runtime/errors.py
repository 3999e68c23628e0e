"""Errors that a user can fix, shown without a traceback.

Messages state the given value, the expected one and the remedy. Errors of the
program itself are other exceptions and keep their traceback.
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
  """An error that ends a program with its message only.

  Attributes:
    exit_status: Exit status of the program.
  """

  exit_status = 1


class InputError(UserError, ValueError):
  """A flag, a config value or a file from the user cannot be used."""

  exit_status = 2


class DamageError(InputError):
  """The content of a file was changed after it was written."""


class ResourceError(UserError):
  """Machines, memory or a tool are unavailable; trying again may help."""

  exit_status = 69


class BusyError(UserError):
  """Another program uses the same folder."""

  exit_status = 73


class StorageError(UserError, OSError):
  """A disk is full, read-only or missing; trying again may help."""

  exit_status = 74


def is_transient(error: Exception) -> bool:
  """Whether an error of reading is due to the machine, not to the file."""
  return isinstance(error, MemoryError | ResourceError) or (
    isinstance(error, OSError) and error.errno in _TRANSIENT_ERRNOS
  )
