"""A trace of some training steps for XProf, TensorBoard or Perfetto.

There is one trace per process. Without `trace_steps` the functions that a loop
calls do nothing.
"""

from collections.abc import Iterator, Sequence
import contextlib
import pathlib
import tempfile
from typing import Any

from absl import logging
from etils import epath
import jax

from genre_flax.runtime import errors
from genre_flax.runtime import files

# The steps of the trace, and its context once it has started.
_steps: tuple[int, int] | None = None
_folder = epath.Path()
_running: contextlib.ExitStack | None = None


def parse_steps(values: Sequence[str]) -> tuple[int, int] | None:
  """Parses the flag --profile_steps, ['10', '20']; None if it is empty.

  Raises:
    InputError: It is not two increasing numbers.
  """
  if not values:
    return None
  try:
    first, last = map(int, values)
    if not 1 <= first <= last:
      raise ValueError
  except ValueError:
    raise errors.InputError(
      f'--profile_steps={",".join(values)}: expected the first and the last'
      ' step to trace, such as 10,20.'
    ) from None
  return first, last


@contextlib.contextmanager
def trace_steps(
  folder: epath.PathLike, steps: tuple[int, int] | None
) -> Iterator[None]:
  """Traces the first to the last of `steps`, trained in the block, if given."""
  global _steps, _folder, _running
  _steps, _folder, _running = steps, epath.Path(folder), None
  try:
    yield
  finally:
    _steps = None
    if _running:
      _running.close()
    elif steps:
      logging.warning('Step %d was not trained: there is no trace.', steps[0])


def before_step(step: int) -> None:
  """Starts the trace if `step` is the first to trace."""
  global _running
  if _steps and step == _steps[0]:
    _running = contextlib.ExitStack()
    _running.enter_context(_trace(_folder, *_steps))


def after_step(step: int, outputs: Any) -> None:
  """Waits for the outputs and stops the trace if `step` is the last one."""
  if _steps and _running and step == _steps[1]:
    jax.block_until_ready(outputs)
    _running.close()


@contextlib.contextmanager
def _trace(folder: epath.Path, first: int, last: int) -> Iterator[None]:
  with contextlib.ExitStack() as stack:
    local = pathlib.Path(folder)
    if files.is_remote(folder):
      # The profiler is C++ code, which cannot write to cloud storage.
      scratch = tempfile.TemporaryDirectory(prefix='genre_flax_')
      local = pathlib.Path(stack.enter_context(scratch))
    with jax.profiler.trace(str(local)):
      yield
    if files.is_remote(folder):
      for path in local.rglob('*'):
        if path.is_file():
          (folder / path.relative_to(local)).write_bytes(path.read_bytes())
  logging.info('A trace of steps %d to %d is in %s.', first, last, folder)
