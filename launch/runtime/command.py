"""Other programs: the one place where they are run, and how they are shown."""

from collections.abc import Sequence
import dataclasses
import shlex
import shutil
import subprocess

from genre_flax.runtime import errors

# What to install, by the tool that is missing.
_INSTALL = {
  'gcloud': 'Install the Google Cloud CLI and log in with `gcloud auth login`.',
  'kubectl': (
    'Install it with `gcloud components install kubectl`, and choose a cluster'
    ' with `gcloud container clusters get-credentials CLUSTER`.'
  ),
  'sbatch': 'Run this on a login node of the Slurm cluster.',
  'squeue': 'Run this on a login node of the Slurm cluster.',
  'sacct': 'Run this on a login node of the Slurm cluster.',
  'scancel': 'Run this on a login node of the Slurm cluster.',
  'bash': 'Install bash.',
}


@dataclasses.dataclass(frozen=True)
class Result:
  """How a program ended.

  Attributes:
    args: that it was run with.
    exit_status: 0 where it succeeded; negative where a signal ended it.
    stdout: what it wrote.
    stderr: what it wrote there.
  """

  args: tuple[str, ...]
  exit_status: int
  stdout: str
  stderr: str

  @property
  def words(self) -> str:
    """The program's own words about what went wrong."""
    return self.stderr.strip() or self.stdout.strip() or '(it said nothing)'


def quote(args: Sequence[str]) -> str:
  """The command as a line that a shell reads as these very arguments."""
  return shlex.join(args)


def require(*tools: str) -> None:
  """Raises ResourceError where a program is not on the PATH."""
  for tool in tools:
    if shutil.which(tool) is None:
      raise errors.ResourceError(
        f'{tool} is not on the PATH. {_INSTALL.get(tool, "Install it.")}'
      )


def run(args: Sequence[str], *, timeout_seconds: float = 1800.0) -> Result:
  """Runs a program to its end, without a shell.

  It gets a session of its own, so that Ctrl-C reaches the launcher alone.

  Args:
    args: the program and its arguments.
    timeout_seconds: after which it is ended and counts as failed.

  Returns:
    How it ended, whatever its status.

  Raises:
    ResourceError: there is no such program.
  """
  require(args[0])
  try:
    done = subprocess.run(
      list(args),
      stdin=subprocess.DEVNULL,
      capture_output=True,
      encoding='utf-8',
      errors='replace',
      timeout=timeout_seconds,
      start_new_session=True,
      check=False,
    )
  except subprocess.TimeoutExpired:
    return Result(
      tuple(args), 124, '', f'It did not end within {timeout_seconds:.0f} s.'
    )
  return Result(tuple(args), done.returncode, done.stdout, done.stderr)


def check(args: Sequence[str], *, hint: str = '') -> Result:
  """Runs a program that has to succeed.

  Args:
    args: the program and its arguments.
    hint: what the user can do if it fails.

  Returns:
    How it ended: with status 0.

  Raises:
    ResourceError: it failed; the message has its own words.
  """
  result = run(args)
  if result.exit_status:
    raise errors.ResourceError(
      f'This command ended with status {result.exit_status}:\n'
      f'  {quote(args)}\nIt said:\n  '
      + '\n  '.join(result.words.splitlines()[-20:])
      + (f'\n{hint}' if hint else '')
    )
  return result
