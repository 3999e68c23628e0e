"""The error that a user can mend."""


class LaunchError(ValueError):
  """What the user gave cannot be used; the message says what to do."""
