"""Saving and verified restoring of the checkpoints of a workdir.

Checkpoint N holds N updates. It has four items: 'model' (parameters, their EMA,
BatchNorm statistics), 'optimizer', 'meta' (JSON: everything that is needed to
use the model without its config file or dataset) and 'record' (see record.py).

Values that differ from their checksums raise an error.
"""

from collections.abc import Callable, Iterator, Mapping
import contextlib
from typing import Any

from absl import logging
from etils import epath
import jax
import orbax.checkpoint as ocp

from genre_flax.checkpoints import record as record_lib
from genre_flax.checkpoints import selection
from genre_flax.checkpoints import shapes
from genre_flax.runtime import errors
from genre_flax.runtime import files
from genre_flax.runtime import parallel
from genre_flax.runtime import shared_flags

# 'model' and 'optimizer', each a tree of arrays.
Items = dict[str, Any]
_ITEMS = ('model', 'optimizer', 'meta', record_lib.ITEM)


class Checkpointer:
  """The checkpoints of a workdir; to be closed at the end.

  Attributes:
    workdir: Folder of the run.
    directory: Folder with a subfolder per checkpoint, named by its step.
    read_only: As in `__init__`.
  """

  def __init__(
    self,
    workdir: epath.PathLike,
    *,
    keep_best: int = 1,
    best_metric: selection.BestMetric | None = None,
    read_only: bool = False,
  ):
    """Opens a workdir.

    Args:
      workdir: Folder of the run.
      keep_best: Number of best checkpoints to keep, besides the latest.
      best_metric: The metric that ranks them; None for that of the latest.
      read_only: Whether never to save or delete, for a run in progress.
    """
    self.workdir = epath.Path(workdir)
    self.directory = self.workdir / 'checkpoints'
    self._keep_best = keep_best
    self._requested_metric = best_metric
    self.read_only = read_only
    self.open()

  def open(self) -> None:
    """Reads the list of checkpoints; also reopens after `close`."""
    # Validation metrics by step, of undamaged checkpoints.
    self._metrics: dict[int, record_lib.Metrics] = {}
    self._best_metric = self._requested_metric or selection.BestMetric()
    with files.storage_errors(self.directory):
      self._manager = ocp.CheckpointManager(
        _absolute(self.directory),
        item_names=_ITEMS,
        options=ocp.CheckpointManagerOptions(
          preservation_policy=selection.KeepLatestAndBest(
            self._metrics, self._best_metric, keep_best=self._keep_best
          ),
          # Otherwise Orbax reads files here that may be damaged.
          lightweight_initialize=True,
          # Orbax's read_only does the same, and logs a warning.
          create=not self.read_only,
          cleanup_tmp_directories=not self.read_only,
        ),
      )
    for step in self.steps():
      try:
        record = record_lib.read(self._folder(step))
      except errors.DamageError as e:
        logging.error('Checkpoint %d is damaged: %s.', step, e)
        continue
      self._metrics[step] = record['metrics']
      self._best_metric = self._requested_metric or record['best_metric']

  def close(self) -> None:
    """Waits for the last save.

    Raises:
      StorageError: The checkpoint could not be written.
    """
    with files.storage_errors(self.directory):
      self._manager.close()

  def __enter__(self) -> 'Checkpointer':
    return self

  def __exit__(self, *exc_info) -> None:
    self.close()

  def steps(self) -> list[int]:
    """The steps of all checkpoints, ascending."""
    return sorted(self._manager.all_steps())

  def find_step(self, which: str) -> int:
    """Returns the step of 'best', 'latest' or a number.

    Without validation the best checkpoint is the latest.

    Raises:
      InputError: There is no such checkpoint.
      DamageError: The best one is requested, and the metrics of a checkpoint
        are damaged.
    """
    steps = self.steps()
    if not steps:
      raise errors.InputError(
        f'{self.workdir} has no checkpoint: {self.directory} is empty or'
        ' missing. Train with `python -m genre_flax.main`, or choose a released'
        f' model: {", ".join(shared_flags.RELEASED_MODELS)}.'
      )
    if which == 'latest':
      return steps[-1]
    if which == 'best':
      for step in steps:
        if step not in self._metrics:
          with self._reading(step):  # Raises, since the record is damaged.
            pass
      best, _ = (self.ranked() or [(steps[-1], {})])[-1]
      return best
    if not which.isdecimal() or int(which) not in steps:
      raise errors.InputError(
        f'--step={which}: {self.workdir} has the checkpoints {steps}; choose'
        " one of them, 'best' or 'latest'."
      )
    return int(which)

  def ranked(self) -> list[tuple[int, Mapping[str, float]]]:
    """Steps and metrics of the checkpoints with validation, the best last."""
    steps = selection.from_worst_to_best(self._metrics, self._best_metric)
    return [(step, self._metrics[step]) for step in steps]

  def save(
    self,
    step: int,
    items: Items,
    *,
    meta: Mapping[str, Any],
    metrics: Mapping[str, float] | None = None,
  ) -> None:
    """Saves a checkpoint in the background; to be called on all hosts.

    Args:
      step: Number of updates. An existing checkpoint of this step is kept.
      items: 'model' and 'optimizer'.
      meta: Values for JSON.
      metrics: Metrics of the validation split; None without validation.

    Raises:
      StorageError: This checkpoint or the previous one could not be written.
    """
    if step in self._manager.all_steps():
      return
    # Orbax refuses arrays of one host's devices in multi-process runs.
    items = jax.device_get(items)
    self._metrics[step] = record_lib.finite_metrics(metrics)
    record = {}
    if parallel.is_main_host():  # Only this host writes JSON.
      record = record_lib.make(
        step,
        items=items,
        meta=meta,
        metrics=self._metrics[step],
        best_metric=self._best_metric,
      )
    with files.storage_errors(self.directory):
      self._manager.save(
        step,
        args=ocp.args.Composite(
          model=ocp.args.StandardSave(items['model']),
          optimizer=ocp.args.StandardSave(items['optimizer']),
          meta=ocp.args.JsonSave(dict(meta)),
          record=ocp.args.JsonSave(record),
        ),
      )

  def wait(self) -> None:
    """Waits until saved checkpoints are on disk.

    Raises:
      StorageError: A checkpoint could not be written.
    """
    with files.storage_errors(self.directory):
      self._manager.wait_until_finished()

  def read_meta(self, step: int) -> dict[str, Any]:
    """Reads the meta of a checkpoint.

    Raises:
      DamageError: The meta is damaged.
    """
    with self._reading(step) as record:
      meta = self._restore(step, meta=ocp.args.JsonRestore())['meta']
      record_lib.check_meta(record, meta)
      if not isinstance(meta, dict):  # From a hostile workdir.
        raise errors.DamageError(f'the meta is of type {type(meta).__name__}')
    return meta

  def restore(self, step: int, template: Items) -> Items:
    """Restores the arrays of a checkpoint, on the host.

    Raises:
      DamageError: The checkpoint is damaged.
      OtherNetworkError: It is not, and its network has other shapes.
    """
    with self._reading(step):
      fits = shapes.check(self._item(step, 'model'), template['model'])
      shapes.check(self._item(step, 'optimizer'), template['optimizer'])
    if not fits:
      self.restore_model(step, template['model'])  # Raises one of the errors.
    with self._reading(step) as record:
      restored = self._restore(
        step,
        **{
          name: ocp.args.StandardRestore(tree)
          for name, tree in template.items()
        },
      )
      items = {name: restored[name] for name in template}
      for name, tree in items.items():
        record_lib.check_arrays(record, name, tree)
        shapes.require(tree, template[name], origin=self._folder(step))
    return items

  def restore_model(
    self, step: int, template: Any | None = None
  ) -> dict[str, Any]:
    """Restores the 'model' item as it was saved.

    Args:
      step: Step of an existing checkpoint.
      template: {'params', 'batch_stats'} of the expected shapes; None for any.

    Returns:
      'params', 'batch_stats' and, if the run had an EMA, 'ema_params', as NumPy
      arrays.

    Raises:
      DamageError: The checkpoint is damaged.
      OtherNetworkError: It is not, and its network has other shapes.
    """
    with self._reading(step) as record:
      shapes.check(self._item(step, 'model'), template)
      model = self._restore(step, model=ocp.args.StandardRestore())['model']
      record_lib.check_arrays(record, 'model', model)
      if template is not None:
        shapes.require(model, template, origin=self._folder(step))
      model.setdefault('batch_stats', {})
    return model

  def undamaged_steps(self) -> list[int]:
    """The steps of the checkpoints whose model can be read, ascending."""
    steps = []
    for step in self.steps():
      with contextlib.suppress(errors.DamageError):
        self.read_meta(step)
        self.restore_model(step)
        steps.append(step)
    return steps

  def _folder(self, step: int) -> epath.Path:
    return self.directory / str(step)

  def _item(self, step: int, name: str) -> epath.Path:
    return _absolute(self._folder(step) / name)

  def _restore(self, step: int, **args: Any) -> Any:
    return self._manager.restore(step, args=ocp.args.Composite(**args))

  @contextlib.contextmanager
  def _reading(self, step: int) -> Iterator[record_lib.Record]:
    """Yields the record; errors of the block name the checkpoint."""
    try:
      yield record_lib.read(self._folder(step))
    except Exception as e:  # Damaged files may raise any exception.
      reason = str(e).partition('\n')[0] or type(e).__name__
      if isinstance(e, errors.InputError) and type(e) is not errors.DamageError:
        raise
      if errors.is_transient(e):
        raise errors.ResourceError(
          f'Checkpoint {step} cannot be read now ({self._folder(step)}):'
          f' {reason}. It may be undamaged: run the same command again.'
        ) from e
      raise errors.DamageError(
        f'Checkpoint {step} cannot be read ({self._folder(step)}): {reason}.'
      ) from e


def read_model(
  workdir: epath.PathLike,
  *,
  step: str,
  make_template: Callable[[dict[str, Any]], Any] | None = None,
) -> tuple[int, dict[str, Any], dict[str, Any]]:
  """Reads the meta and the network of a workdir.

  Args:
    workdir: Folder of the run.
    step: Checkpoint, as in `Checkpointer.find_step`.
    make_template: Function of the meta that returns the variables' expected
      shapes.

  Returns:
    The step, the meta, and the variables {'params', 'batch_stats'} with the EMA
    of the parameters if the run had one.

  Raises:
    InputError: There is no such checkpoint.
    DamageError: The checkpoint is damaged; the message lists undamaged ones.
  """
  with Checkpointer(workdir, read_only=True) as checkpointer:
    try:
      found = checkpointer.find_step(step)
      meta = checkpointer.read_meta(found)
      model = checkpointer.restore_model(
        found, make_template(meta) if make_template else None
      )
    except errors.DamageError as e:
      undamaged = checkpointer.undamaged_steps()
      remedy = 'Choose one with --step.' if undamaged else ''
      raise errors.DamageError(
        f'{e} Undamaged checkpoints: {undamaged or "none"}. {remedy}'.rstrip()
      ) from e
  params = model.get('ema_params', model['params'])
  variables = {'params': params, 'batch_stats': model['batch_stats']}
  return found, meta, variables


def _absolute(path: epath.Path) -> epath.Path:
  """An absolute path for Orbax; `resolve` would make gs:// a local path."""
  return path if files.is_remote(path) else path.resolve()
