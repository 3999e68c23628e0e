"""TensorBoard's events, written where they are asked for and not in a thread.

tensorboardX's own writer has a thread that a full disk ends with a traceback,
and that the program then waits for.
"""

from collections.abc import Iterator, Mapping
import contextlib
import sys
import time

from etils import epath

from genre_flax.runtime import files


@contextlib.contextmanager
def _without_torch() -> Iterator[None]:
  """Keeps what is imported in the block from importing PyTorch.

  tensorboardX does where there is one: half a gigabyte and seconds, for tensors
  that are never given to it.
  """
  if 'torch' in sys.modules:
    yield
    return
  sys.modules['torch'] = None  # An import of it fails, as if it were not there.
  try:
    yield
  finally:
    del sys.modules['torch']


with _without_torch():
  from tensorboardX import event_file_writer
  from tensorboardX import summary
  from tensorboardX.proto import event_pb2


class EventWriter:
  """Writes scalars by step into a file of a folder."""

  def __init__(self, folder: epath.Path, *, purge_step: int):
    """Opens a new file.

    Args:
      folder: that TensorBoard is to show; made where it does not exist.
      purge_step: steps from this one on, in earlier files, are no longer shown.

    Raises:
      StorageError: it cannot be written.
    """
    self._folder = folder
    with files.explaining(folder):
      folder.mkdir(parents=True, exist_ok=True)
      self._file = event_file_writer.EventsWriter(str(folder / 'events'))
      log = event_pb2.SessionLog(status=event_pb2.SessionLog.START)
      self._add(event_pb2.Event(step=purge_step, session_log=log))

  def write(self, step: int, values: Mapping[str, float]) -> None:
    """Adds scalars at a step.

    Raises:
      StorageError: they cannot be written.
    """
    with files.explaining(self._folder):
      for name, value in values.items():
        scalar = summary.scalar(name, value)
        self._add(event_pb2.Event(step=step, summary=scalar))
      self._file.flush()

  def _add(self, event):
    event.wall_time = time.time()
    self._file.write_event(event)

  def close(self) -> None:
    """Closes the file; all is written already, or an error was raised."""
    # A full disk says so again.
    with contextlib.suppress(OSError):
      self._file.close()
