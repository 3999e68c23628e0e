"""Metrics by step in a workdir: JSON lines and TensorBoard events.

metrics.jsonl has a line {"step": 20, "split": "train", "loss": 5.1, ...} per
step and split.
"""

from collections.abc import Iterable, Mapping
import contextlib
import json
import math
import time
from typing import Any

from absl import logging
from etils import epath

from genre_flax.runtime import files

FILE_NAME = 'metrics.jsonl'

Line = dict[str, Any]


def read(folder: epath.PathLike) -> list[Line]:
  """Reads the lines of a folder's file; an empty list without a file.

  Lines that cannot be parsed, such as one cut off when a run was killed, are
  skipped with a warning.
  """
  path = epath.Path(folder) / FILE_NAME
  if not path.exists():
    return []
  lines, skipped = [], []
  for number, text in enumerate(path.read_bytes().splitlines(keepends=True), 1):
    try:
      line = json.loads(text)
      int(line['step'])
      # Otherwise the end may be missing.
      is_complete = text.endswith(b'\n')
    except (ValueError, KeyError, TypeError):
      is_complete = False
    if is_complete:
      lines.append(line)
    else:
      skipped.append(number)
  if skipped:
    logging.warning(
      '%s: skipped %d incomplete or damaged lines, starting with line %d.',
      path,
      len(skipped),
      skipped[0],
    )
  return lines


def write(folder: epath.PathLike, lines: Iterable[Line]) -> None:
  """Writes a folder's file atomically, replacing earlier lines.

  Raises:
    StorageError: The file cannot be written.
  """
  text = ''.join(f'{json.dumps(line)}\n' for line in lines)
  files.write_atomic(epath.Path(folder) / FILE_NAME, text)


class MetricWriter:
  """Writes metrics to metrics.jsonl and, optionally, to TensorBoard events.

  A run that resumes from an earlier checkpoint drops the lines after it.
  """

  def __init__(
    self,
    workdir: epath.PathLike,
    *,
    start_step: int,
    tensorboard: bool,
    is_active: bool = True,
  ):
    """Opens the files.

    Args:
      workdir: Folder of the run.
      start_step: Number of updates so far. Lines of later steps are dropped.
      tensorboard: Whether to write TensorBoard events.
      is_active: Whether to write at all. False on all hosts but one.

    Raises:
      StorageError: The files cannot be written.
    """
    self._workdir = epath.Path(workdir) if is_active else None
    self._events = None
    if not is_active:
      return
    lines = [line for line in read(workdir) if line['step'] <= start_step]
    write(workdir, lines)
    # Cloud storage cannot append: each line rewrites the file.
    self._lines = lines if files.is_remote(workdir) else None
    if tensorboard:
      self._events = _EventWriter(
        self._workdir / 'tensorboard', purge_step=start_step + 1
      )

  def write(self, step: int, split: str, values: Mapping[str, float]) -> None:
    """Writes the metrics of a split; NaN and infinity become null.

    Raises:
      StorageError: The metrics cannot be written.
    """
    if self._workdir is None:
      return
    line = {'step': step, 'split': split}
    for name, value in values.items():
      line[name] = float(value) if math.isfinite(value) else None
    if self._lines is not None:
      self._lines.append(line)
      write(self._workdir, self._lines)
    else:
      path = self._workdir / FILE_NAME
      with files.storage_errors(path), path.open('a') as file:
        file.write(f'{json.dumps(line)}\n')
    if self._events is not None:
      scalars = {f'{split}/{name}': value for name, value in values.items()}
      self._events.write(step, scalars)

  def close(self) -> None:
    """Closes the files."""
    if self._events is not None:
      self._events.close()


class _EventWriter:
  """Writes scalars to a TensorBoard event file, without a thread.

  The thread of tensorboardX.SummaryWriter ends with a traceback on a full disk,
  and the program then waits for it forever.
  """

  def __init__(self, folder: epath.Path, *, purge_step: int):
    """Opens a new file; steps of earlier files from `purge_step` are hidden."""
    # Imported here, since tensorboardX imports PyTorch where it is installed.
    from tensorboardX import event_file_writer
    from tensorboardX import summary
    from tensorboardX.proto import event_pb2

    self._folder = folder
    self._make_event = event_pb2.Event
    self._make_scalar = summary.scalar
    with files.storage_errors(folder):
      folder.mkdir(parents=True, exist_ok=True)
      self._file = event_file_writer.EventsWriter(str(folder / 'events'))
      log = event_pb2.SessionLog(status=event_pb2.SessionLog.START)
      self._add(step=purge_step, session_log=log)

  def write(self, step: int, values: Mapping[str, float]) -> None:
    with files.storage_errors(self._folder):
      for name, value in values.items():
        self._add(step=step, summary=self._make_scalar(name, value))
      self._file.flush()

  def _add(self, **fields):
    self._file.write_event(self._make_event(wall_time=time.time(), **fields))

  def close(self) -> None:
    # A full disk was reported by `write`, and raises again here.
    with contextlib.suppress(OSError):
      self._file.close()
