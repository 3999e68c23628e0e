"""predictions.npz: labels, scores and predicted genres of an evaluated split.

It has all inputs of the metrics, so that runs are compared without networks and
posters: the arrays 'labels' and 'scores' [N, L], a bool [N, L] per operating
point, and 'meta', which is JSON.
"""

from collections.abc import Mapping
import dataclasses
import io
import json

from etils import epath
import numpy as np

from genre_flax.evaluation import metrics
from genre_flax.runtime import errors
from genre_flax.runtime import files

FILE_NAME = 'predictions.npz'


@dataclasses.dataclass(frozen=True)
class StoredPredictions:
  """The evaluation of a checkpoint on a split of N posters.

  Attributes:
    inputs: of the metrics.
    split: its name.
    step: of the checkpoint.
    ids: of the posters.
    genres: the label names.
    constant_baseline: the value of each metric; None if it is undefined.
  """

  inputs: metrics.Inputs
  split: str
  step: str
  ids: list[str]
  genres: list[str]
  constant_baseline: Mapping[str, float | None]

  @property
  def labels(self) -> np.ndarray:
    """Bool [N, L]."""
    return self.inputs.labels


def write(predictions: StoredPredictions, folder: epath.Path) -> None:
  """Writes predictions.npz into a folder.

  Raises:
    StorageError: it cannot be written.
  """
  meta = dict(vars(predictions))
  inputs, content = meta.pop('inputs'), io.BytesIO()
  np.savez_compressed(
    content,
    meta=json.dumps(meta),
    labels=inputs.labels,
    scores=inputs.scores,
    **inputs.fitted,
  )
  files.write_atomic(folder / FILE_NAME, content.getvalue())


def read(folder: epath.Path) -> StoredPredictions | None:
  """Reads the predictions.npz of a folder; None if there is none.

  Raises:
    InputError: the file is invalid.
  """
  path = folder / FILE_NAME
  if not path.exists():
    return None
  try:
    with np.load(io.BytesIO(path.read_bytes()), allow_pickle=False) as stored:
      arrays = {name: stored[name] for name in stored.files}
    meta = json.loads(str(arrays.pop('meta')))
    labels, scores = arrays.pop('labels'), arrays.pop('scores')
    return StoredPredictions(
      metrics.Inputs(scores, labels, fitted=arrays), **meta
    )
  except Exception as e:  # Depends on the damage.
    raise errors.InputError(
      f'{path} cannot be read: {e!r}. Delete it, and evaluate the checkpoint'
      ' again with `python -m genre_flax.top3 --split`.'
    ) from e
