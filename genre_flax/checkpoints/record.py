"""The record of a checkpoint: its step, metrics and checksums.

The record is an item beside the model, the optimizer and the meta. It holds the
checksum of each array, of the meta and of itself, so that damage is detected.
"""

from collections.abc import Mapping
import json
import math
from typing import Any

from etils import epath
import jax

from genre_flax.checkpoints import selection
from genre_flax.runtime import checksums
from genre_flax.runtime import errors

ITEM = 'record'
# Orbax's file for the JSON of an item, and its list of a checkpoint's items.
JSON_FILE = 'metadata'
_ITEM_LIST = '_CHECKPOINT_METADATA'

Record = dict[str, Any]
# Metrics of the validation split; None without validation.
Metrics = dict[str, float] | None


def finite_metrics(metrics: Mapping[str, float] | None) -> Metrics:
  """Converts metrics for JSON, which does not have NaN and infinity."""
  if metrics is None:
    return None
  return {k: float(v) for k, v in metrics.items() if math.isfinite(v)}


def make(
  step: int,
  *,
  items: Mapping[str, Any],
  meta: Mapping[str, Any],
  metrics: Metrics,
  best_metric: selection.BestMetric,
) -> Record:
  """Creates the record of a checkpoint, for JSON."""
  record = {
    'algorithm': checksums.ALGORITHM,
    'step': step,
    'metrics': metrics,
    'best_metric': best_metric,
    'meta': checksums.of_json(meta),
    **{name: _checksums_of_tree(tree) for name, tree in items.items()},
  }
  return {**record, 'checksum': checksums.of_json(record)}


def read(folder: epath.Path) -> Record:
  """Reads and verifies the record of a checkpoint.

  Raises:
    DamageError: The record is damaged or missing.
    InputError: The checkpoint was saved without a record.
  """
  path = folder / ITEM / JSON_FILE
  try:
    record = json.loads(path.read_bytes())
    is_intact = record.pop('checksum') == checksums.of_json(record)
    step, metrics = record['step'], record['metrics']
    name, higher_is_better = record['best_metric']
    record['best_metric'] = selection.BestMetric(
      str(name), bool(higher_is_better)
    )
  except FileNotFoundError:
    if _is_saved_without_record(folder):
      raise errors.InputError(
        f'{folder} has no checksums: it is not a checkpoint of this version of'
        ' genre_flax. Choose another --workdir.'
      ) from None
    raise errors.DamageError(f'{path} is missing') from None
  except Exception as e:  # Damaged JSON may raise any exception.
    raise errors.DamageError(f'{path} cannot be read: {e!r}') from e
  if not is_intact:
    raise errors.DamageError(f'{path} does not match its checksum')
  if str(step) != folder.name:
    raise errors.DamageError(f'{path} belongs to step {step}')
  if metrics is not None and not (
    isinstance(metrics, dict)
    and all(isinstance(value, (int, float)) for value in metrics.values())
  ):
    raise errors.DamageError(f'the metrics in {path} are not numbers')
  return record


def check_arrays(record: Record, item: str, tree: Any) -> None:
  """Compares restored arrays with the checksums of the saved ones.

  Raises:
    DamageError: An array differs, is missing or was not saved.
  """
  saved, restored = record[item], _checksums_of_tree(tree)
  differing = sorted(
    path
    for path in saved.keys() | restored.keys()
    if saved.get(path) != restored.get(path)
  )
  if differing:
    raise errors.DamageError(
      f'{len(differing)} of {len(saved)} arrays do not match their checksums,'
      f' the first of them {item}{differing[0]}'
    )


def check_meta(record: Record, meta: Mapping[str, Any]) -> None:
  """Compares a restored meta with the checksum of the saved one.

  Raises:
    DamageError: It differs.
  """
  if record['meta'] != checksums.of_json(meta):
    raise errors.DamageError('the meta does not match its checksum')


def _checksums_of_tree(tree: Any) -> dict[str, str]:
  return {
    jax.tree_util.keystr(path): checksums.of_array(array)
    for path, array in jax.tree_util.tree_leaves_with_path(tree)
  }


def _is_saved_without_record(folder: epath.Path) -> bool:
  try:
    return ITEM.encode() not in (folder / _ITEM_LIST).read_bytes()
  except OSError:  # Damaged, or deleted by a run in progress.
    return False
