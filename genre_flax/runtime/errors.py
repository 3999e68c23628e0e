"""The error that a user can mend."""


class InputError(ValueError):
  """What the user gave (a flag, a config value, a file) cannot be used.

  The binaries show the message alone, without a traceback. So the message
  says what was got, what was expected, and what to do about it. A fault of the
  program itself is any other exception, and keeps its traceback.
  """
