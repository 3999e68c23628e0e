"""Loggers of scalars for viewers: TensorBoard and Weights & Biases.

They repeat metrics.jsonl. A logger that fails is closed with a warning, and
the training continues.
"""

from collections.abc import Callable, Mapping
import contextlib
import pathlib
import time
from typing import Any
import uuid

from absl import logging
from etils import epath

from genre_flax.runtime import errors

_WANDB_ID = 'wandb_id'


class Guarded:
  """A logger that is closed with a warning when it fails."""

  def __init__(
    self, name: str, make: Callable[[], 'TensorBoard | WeightsAndBiases']
  ):
    self._name = name
    self._logger = None
    with self._warning():
      self._logger = make()

  def write(self, step: int, values: Mapping[str, float]) -> None:
    """Writes the values of a step."""
    if self._logger is not None:
      with self._warning():
        self._logger.write(step, values)

  def close(self) -> None:
    """Closes the logger."""
    closing, self._logger = self._logger, None
    if closing is not None:
      with self._warning():
        closing.close()

  @contextlib.contextmanager
  def _warning(self):
    try:
      yield
    except errors.InputError:
      raise
    except Exception as e:  # Of a disk, a network, or a library.
      logging.warning(
        '%s failed and is disabled: %s: %s', self._name, type(e).__name__, e
      )
      failed, self._logger = self._logger, None
      if failed is not None:
        with contextlib.suppress(Exception):
          failed.close()


class TensorBoard:
  """Writes scalars to a TensorBoard event file, without a thread.

  The thread of tensorboardX.SummaryWriter ends with a traceback on a full disk,
  and the program then waits for it forever.
  """

  def __init__(self, folder: pathlib.Path, *, purge_step: int):
    """Opens a new file; steps of earlier files from `purge_step` are hidden."""
    # Imported here, since tensorboardX imports PyTorch where it is installed.
    from tensorboardX import event_file_writer
    from tensorboardX import summary
    from tensorboardX.proto import event_pb2

    self._make_event = event_pb2.Event
    self._make_scalar = summary.scalar
    folder.mkdir(parents=True, exist_ok=True)
    self._file = event_file_writer.EventsWriter(str(folder / 'events'))
    log = event_pb2.SessionLog(status=event_pb2.SessionLog.START)
    self._add(step=purge_step, session_log=log)

  def write(self, step: int, values: Mapping[str, float]) -> None:
    """Writes the values of a step."""
    for name, value in values.items():
      self._add(step=step, summary=self._make_scalar(name, value))
    self._file.flush()

  def _add(self, **fields):
    self._file.write_event(self._make_event(wall_time=time.time(), **fields))

  def close(self) -> None:
    """Closes the file."""
    self._file.close()


class WeightsAndBiases:
  """Logs to a run of Weights & Biases; a resumed training continues its run."""

  def __init__(
    self,
    project: str,
    folder: pathlib.Path,
    *,
    workdir: epath.Path,
    config: Mapping[str, Any] | None = None,
  ):
    """Starts or continues the run.

    Raises:
      InputError: wandb is not installed.
    """
    try:
      import wandb
    except ImportError as e:
      raise errors.InputError(
        f'config.wandb={project!r} needs the extra wandb: pip install -e'
        " '.[wandb]'"
      ) from e

    id_file = workdir / _WANDB_ID
    if not id_file.exists():
      id_file.write_text(uuid.uuid4().hex)
    self._run = wandb.init(
      project=project,
      dir=str(folder),
      id=id_file.read_text().strip(),
      name=workdir.name,
      config=dict(config or {}),
      resume='allow',
      settings=wandb.Settings(console='off'),
    )
    # Steps may repeat after a training is resumed; wandb's own must grow.
    self._run.define_metric('*', step_metric='step')

  def write(self, step: int, values: Mapping[str, float]) -> None:
    """Logs the values of a step."""
    self._run.log({'step': step, **values})

  def close(self) -> None:
    """Uploads the rest, or stores it in offline mode."""
    self._run.finish()
