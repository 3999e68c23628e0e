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

FOLDER_NAME = 'profile'


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


class _Trace:
  """A trace that was requested."""

  def __init__(self, folder: epath.PathLike, first: int, last: int):
    self.first, self.last = first, last
    self.has_started = self.is_running = False
    self._folder = epath.Path(folder)
    self._local = pathlib.Path(folder)

  def start(self) -> None:
    if files.is_remote(self._folder):
      # The profiler is C++ code, which cannot write to cloud storage.
      self._local = pathlib.Path(tempfile.mkdtemp(prefix='genre_flax_'))
    jax.profiler.start_trace(str(self._local))
    self.has_started = self.is_running = True

  def stop(self) -> None:
    jax.profiler.stop_trace()
    self.is_running = False
    if files.is_remote(self._folder):
      for path in self._local.rglob('*'):
        if path.is_file():
          target = self._folder / path.relative_to(self._local)
          target.write_bytes(path.read_bytes())
    logging.info(
      'A trace of steps %d to %d is in %s.', self.first, self.last, self._folder
    )


_trace: _Trace | None = None


@contextlib.contextmanager
def trace_steps(
  folder: epath.PathLike, steps: tuple[int, int] | None
) -> Iterator[None]:
  """Traces steps of the training in the block.

  Args:
    folder: Folder for the trace.
    steps: The first and the last step; None for no trace.
  """
  global _trace
  _trace = trace = _Trace(folder, *steps) if steps else None
  try:
    yield
  finally:
    _trace = None
    if trace and trace.is_running:
      trace.stop()
    elif trace and not trace.has_started:
      logging.warning(
        'Step %d was not trained: there is no trace.', trace.first
      )


def before_step(step: int) -> None:
  """Starts the trace if `step` is the first to trace."""
  if _trace and step == _trace.first:
    _trace.start()


def after_step(step: int, outputs: Any) -> None:
  """Waits for the outputs and stops the trace if `step` is the last one."""
  if _trace and _trace.is_running and step == _trace.last:
    jax.block_until_ready(outputs)
    _trace.stop()
