"""The errors that a user can mend: shown without a traceback.

Their messages say what was got, what was expected, and what to do about it. A
fault of the program itself is any other exception, and keeps its traceback.
"""


class UserError(Exception):
  """What ends a program with a message alone.

  Attributes:
    exit_status: of the program.
  """

  exit_status = 1


class InputError(UserError, ValueError):
  """What the user gave (a flag, a config value, a file) cannot be used."""

  exit_status = 2


class DamageError(InputError):
  """A file is not what was written."""


class ResourceError(UserError):
  """The machines, or the tool that asks for them, cannot be had."""

  exit_status = 69


class BusyError(UserError):
  """Another program works on the same thing."""

  exit_status = 73


class StorageError(UserError, OSError):
  """A disk is full, read-only or gone; trying again may help."""

  exit_status = 74
