"""Metrics by step in a workdir: JSON lines, TensorBoard, Weights & Biases.

metrics.jsonl has a line {"step": 20, "split": "train", "loss": 5.1, ...} per
step and split.
"""

from collections.abc import Iterable, Mapping
import json
import math
import pathlib
from typing import Any

from absl import logging
from etils import epath

from genre_flax.runtime import files
from genre_flax.runtime import loggers
from genre_flax.runtime import uploads

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
  """Writes metrics to metrics.jsonl and to the loggers of `loggers`.

  A run that resumes from an earlier checkpoint drops the lines after it. For a
  workdir on cloud storage, files are written locally and uploaded by a thread.
  """

  def __init__(
    self,
    workdir: epath.PathLike,
    *,
    start_step: int,
    tensorboard: bool,
    wandb: str = '',
    config: Mapping[str, Any] | None = None,
    is_active: bool = True,
  ):
    """Opens the files.

    Lines of steps after `start_step` are dropped. Only the main host writes: on
    others, `is_active` is False.

    Raises:
      InputError: wandb is not installed.
      StorageError: The files cannot be written.
    """
    self._folder: pathlib.Path | None = None
    self._uploader: uploads.Uploader | None = None
    self._loggers: list[loggers.Guarded] = []
    if not is_active:
      return
    workdir = epath.Path(workdir)
    lines = [line for line in read(workdir) if line['step'] <= start_step]
    write(workdir, lines)
    folder = pathlib.Path(workdir)
    if files.is_remote(workdir):
      self._uploader = uploads.Uploader(workdir)
      folder = self._uploader.folder
      write(folder, lines)
    self._folder = folder
    if tensorboard:
      self._loggers.append(
        loggers.Guarded(
          'TensorBoard',
          lambda: loggers.TensorBoard(
            folder / 'tensorboard', purge_step=start_step + 1
          ),
        )
      )
    if wandb:
      self._loggers.append(
        loggers.Guarded(
          'wandb',
          lambda: loggers.WeightsAndBiases(
            wandb, folder, workdir=workdir, config=config
          ),
        )
      )

  def write(self, step: int, split: str, values: Mapping[str, float]) -> None:
    """Writes the metrics of a split; NaN and infinity become null.

    Raises:
      StorageError: The metrics cannot be written.
    """
    if self._folder is None:
      return
    line = {'step': step, 'split': split}
    for name, value in values.items():
      line[name] = float(value) if math.isfinite(value) else None
    path = self._folder / FILE_NAME
    with files.storage_errors(path), path.open('a') as file:
      file.write(f'{json.dumps(line)}\n')
    scalars = {f'{split}/{name}': value for name, value in values.items()}
    for logger in self._loggers:
      logger.write(step, scalars)

  def upload(self) -> None:
    """Starts an upload to cloud storage before the next one is due."""
    if self._uploader is not None:
      self._uploader.request()

  def close(self) -> None:
    """Closes the files, and uploads the rest."""
    for logger in self._loggers:
      logger.close()
    if self._uploader is not None:
      self._uploader.close()
