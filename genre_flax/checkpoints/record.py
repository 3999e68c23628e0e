"""What a checkpoint says of itself, so that damage to it is seen.

An item beside the others: the step, the metrics of the validation split, and
the digests of each array, of the meta and of the record itself. Checkpoints
from before there were records have none; they are read, and said to be
unverified.
"""

from collections.abc import Mapping
import json
import math
from typing import Any

from etils import epath
import jax

from genre_flax.runtime import checksums
from genre_flax.runtime import errors

ITEM = 'record'
# Where Orbax puts the JSON of an item, its list of a checkpoint's items, and
# the metrics that it kept itself before there were records.
JSON_FILE = 'metadata'
_ITEM_LIST = '_CHECKPOINT_METADATA'
_OLD_METRICS = 'metrics/metrics'

Record = dict[str, Any]


def make(
  step: int,
  *,
  items: Mapping[str, Any],
  meta: Mapping[str, Any],
  metrics: Mapping[str, float] | None,
) -> Record:
  """The record of a checkpoint.

  Args:
    step: updates done.
    items: trees of arrays on the host, by name.
    meta: that JSON can hold.
    metrics: of the validation split; None where it was not evaluated.

  Returns:
    What JSON can hold.
  """
  record = {
    'algorithm': checksums.ALGORITHM,
    'step': step,
    'metrics': None if metrics is None else _finite_floats(metrics),
    'meta': checksums.of_json(meta),
    **{name: _digests_of_tree(tree) for name, tree in items.items()},
  }
  return {**record, 'digest': checksums.of_json(record)}


def read(folder: epath.Path) -> Record | None:
  """The record of the checkpoint in a folder that is named by its step.

  Returns:
    The record; None where the checkpoint is from before there were any.

  Raises:
    DamageError: it is not what was written.
  """
  path = folder / ITEM / JSON_FILE
  try:
    record = json.loads(path.read_bytes())
    own = record.pop('digest')
    is_whole = own == checksums.of_json(record)
    step = record['step']
  except FileNotFoundError:
    if ITEM in _list_of_items(folder):
      raise errors.DamageError(f'{path} is missing') from None
    return None
  except Exception as e:  # The bytes decide what is raised.
    raise errors.DamageError(f'{path} cannot be read: {e!r}') from e
  if not is_whole:
    raise errors.DamageError(f'{path} does not fit its digest')
  if str(step) != folder.name:
    raise errors.DamageError(f'{path} is of step {step}')
  _check_metrics(record['metrics'], path)
  return record


def read_metrics(folder: epath.Path) -> dict[str, float] | None:
  """The validation metrics of the checkpoint in a folder, None without any.

  Raises:
    DamageError: they are not what was written.
  """
  record = read(folder)
  if record is not None:
    return record['metrics']
  path = folder / _OLD_METRICS
  try:
    metrics = json.loads(path.read_bytes())
  except FileNotFoundError:
    return None
  except Exception as e:  # The bytes decide what is raised.
    raise errors.DamageError(f'{path} cannot be read: {e!r}') from e
  _check_metrics(metrics, path)
  return metrics


def check_arrays(record: Record, item: str, tree: Any) -> None:
  """Compares what was read of an item with the digests of what was saved.

  Raises:
    DamageError: an array differs, is missing, or was not saved.
  """
  saved, found = record[item], _digests_of_tree(tree)
  differing = sorted(
    path
    for path in saved.keys() | found.keys()
    if saved.get(path) != found.get(path)
  )
  if differing:
    raise errors.DamageError(
      f'{len(differing)} of {len(saved)} arrays do not fit their digests, the'
      f' first of them {item}{differing[0]}'
    )


def check_meta(record: Record, meta: Mapping[str, Any]) -> None:
  """Compares the meta that was read with the digest of what was saved.

  Raises:
    DamageError: it differs.
  """
  if record['meta'] != checksums.of_json(meta):
    raise errors.DamageError('the meta does not fit its digest')


def _check_metrics(metrics: Any, path: epath.Path) -> None:
  if metrics is not None and not (
    isinstance(metrics, dict)
    and all(isinstance(value, (int, float)) for value in metrics.values())
  ):
    raise errors.DamageError(f'the metrics in {path} are no numbers by name')


def _digests_of_tree(tree: Any) -> dict[str, str]:
  return {
    jax.tree_util.keystr(path): checksums.of_array(array)
    for path, array in jax.tree_util.tree_leaves_with_path(tree)
  }


def _list_of_items(folder: epath.Path) -> str:
  try:
    return (folder / _ITEM_LIST).read_bytes().decode(errors='replace')
  except OSError:
    return ''


def _finite_floats(metrics: Mapping[str, float]) -> dict[str, float]:
  """Plain floats, leaving out what is not finite: JSON has no NaN."""
  floats = {name: float(value) for name, value in metrics.items()}
  return {name: v for name, v in floats.items() if math.isfinite(v)}
