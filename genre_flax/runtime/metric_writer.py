"""Writes metrics by step into the workdir: JSON lines, TensorBoard events."""

from collections.abc import Mapping
import math

from etils import epath

from genre_flax.runtime import events
from genre_flax.runtime import files
from genre_flax.runtime import metric_lines


class MetricWriter:
  """One line a call: {"step": 20, "split": "train", "loss": 5.1, ...}.

  A run that goes back to an earlier checkpoint drops the lines after it.
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
      workdir: of the run.
      start_step: updates done so far; later lines are dropped.
      tensorboard: whether to write events too.
      is_active: False to write nothing, on all hosts but one.

    Raises:
      StorageError: they cannot be written.
    """
    self._workdir = epath.Path(workdir) if is_active else None
    self._events = None
    if not is_active:
      return
    lines = [
      line for line in metric_lines.read(workdir) if line['step'] <= start_step
    ]
    metric_lines.write(workdir, lines)
    # Cloud storage has no append: there the whole is written at each line.
    self._lines = lines if files.is_remote(workdir) else None
    if tensorboard:
      self._events = events.EventWriter(
        self._workdir / 'tensorboard', purge_step=start_step + 1
      )

  def write(self, step: int, split: str, values: Mapping[str, float]) -> None:
    """Adds the metrics of a split at a step; NaN and infinity become null.

    Raises:
      StorageError: they cannot be written.
    """
    if self._workdir is None:
      return
    line = {'step': step, 'split': split}
    for name, value in values.items():
      line[name] = float(value) if math.isfinite(value) else None
    if self._lines is None:
      metric_lines.append(self._workdir, line)
    else:
      self._lines.append(line)
      metric_lines.write(self._workdir, self._lines)
    if self._events is not None:
      scalars = {f'{split}/{name}': value for name, value in values.items()}
      self._events.write(step, scalars)

  def close(self) -> None:
    """Writes out what is left."""
    if self._events is not None:
      self._events.close()
