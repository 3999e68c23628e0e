"""The errors that end a launch with a message and no traceback."""


class LaunchError(Exception):
  """A launch that cannot go on; its message says why, and what to do.

  Attributes:
    exit_status: of the program.
  """

  exit_status = 1


class InputError(LaunchError):
  """What the user gave cannot be used; trying again changes nothing."""

  exit_status = 2


class BusyError(LaunchError):
  """Another launcher on this machine does it already."""

  exit_status = 73


class ResourceError(LaunchError):
  """The machines, or the tool that asks for them, cannot be had."""

  exit_status = 69
