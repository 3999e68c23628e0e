"""Errors of what a user gave, which end a program with a message alone."""


class LaunchError(ValueError):
  """What was got, what was expected, and what to do."""
