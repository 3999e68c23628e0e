"""Writes metrics by step into the workdir: JSON lines, TensorBoard events."""

from collections.abc import Mapping
import json
import math

from etils import epath
import tensorboardX

FILE_NAME = 'metrics.jsonl'


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
    """
    self._path = epath.Path(workdir) / FILE_NAME if is_active else None
    self._events = None
    if self._path is None:
      return
    self._lines = [
      json.dumps(line)
      for line in read_metrics(workdir)
      if line['step'] <= start_step
    ]
    self._write()
    if tensorboard:
      self._events = tensorboardX.SummaryWriter(
        str(epath.Path(workdir) / 'tensorboard'), purge_step=start_step + 1
      )

  def write(self, step: int, split: str, values: Mapping[str, float]) -> None:
    """Adds the metrics of a split at a step; NaN and infinity become null."""
    if self._path is None:
      return
    line = {'step': step, 'split': split}
    for name, value in values.items():
      line[name] = float(value) if math.isfinite(value) else None
      if self._events is not None:
        self._events.add_scalar(f'{split}/{name}', value, step)
    self._lines.append(json.dumps(line))
    self._write()

  def _write(self) -> None:
    # The whole file, since cloud storage has no append; it stays small.
    self._path.write_text(''.join(f'{line}\n' for line in self._lines))

  def close(self) -> None:
    """Writes out what is left."""
    if self._events is not None:
      self._events.close()


def read_metrics(workdir: epath.PathLike) -> list[dict[str, float]]:
  """The lines of a workdir's file, as dicts; none where there is no file."""
  path = epath.Path(workdir) / FILE_NAME
  if not path.exists():
    return []
  lines = []
  for text in path.read_text().splitlines():
    try:
      lines.append(json.loads(text))
    except json.JSONDecodeError:
      continue  # Cut off when the run was killed.
  return lines
