"""The summary of a run, from the files in its workdir."""

from collections.abc import Iterator, Sequence
import dataclasses
from typing import Any

from absl import logging
from etils import epath
import jax
import numpy as np

from configs import default
from genre_flax import config as config_lib
from genre_flax.datasets.posters import storage
from genre_flax.inference import predictor as predictor_lib
from genre_flax.runtime import errors
from genre_flax.runtime import metric_writer
from genre_flax.training import run_history


@dataclasses.dataclass(frozen=True)
class RunSummary:
  """The summary of a run.

  Attributes:
    workdir: of the run.
    predictor: of the checkpoint.
    card: the data card of the dataset, or None if it is missing.
    history: the lines of metrics.jsonl.
    starts: of `run_history.read`.
    changed_keys: (key, value, default) of config keys that differ from the
      default.
  """

  workdir: epath.Path
  predictor: predictor_lib.Predictor
  card: dict[str, Any] | None
  history: Sequence[metric_writer.Line]
  starts: Sequence[dict[str, Any]]
  changed_keys: Sequence[tuple[str, str, str]]

  @property
  def name(self) -> str:
    """The last part of the path of the workdir."""
    return self.workdir.resolve().name

  @property
  def num_params(self) -> int:
    """The number of parameters of the network."""
    params = self.predictor.variables['params']
    return sum(np.size(leaf) for leaf in jax.tree.leaves(params))

  @property
  def num_steps(self) -> int:
    """The number of steps of the training."""
    return max((line['step'] for line in self.history), default=0)

  @property
  def seconds(self) -> float:
    """The time of training and validation, summed over all starts."""
    return sum(self._seconds_by_line())

  def _seconds_by_line(self) -> Iterator[float]:
    last = 0
    for line in self.history:
      rate = _number(line.get('images_per_second'))
      if line['split'] == 'train' and rate:
        yield (line['step'] - last) * self.predictor.config.batch_size / rate
        last = line['step']
      elif line['split'] != 'train':
        yield _number(line.get('seconds')) or 0.0

  def series(self, split: str, name: str) -> list[tuple[int, float]]:
    """(step, value) of a metric of a split."""
    return [
      (line['step'], value)
      for line in self.history
      if line['split'] == split
      and (value := _number(line.get(name))) is not None
    ]

  def peak(self, name: str) -> float | None:
    """The maximum of a training metric; None if it was not recorded."""
    return max((v for _, v in self.series('train', name)), default=None)


def read(
  workdir: epath.Path, predictor: predictor_lib.Predictor, *, data_dir: str
) -> RunSummary:
  """Reads the summary of a run.

  Args:
    workdir: of the run.
    predictor: restored from the workdir.
    data_dir: of the dataset, which may be missing.

  Returns:
    The summary.
  """
  card = None
  try:
    card = storage.read_card(data_dir)
  except errors.InputError as e:
    logging.warning('The report has no data card: %s', e)
  return RunSummary(
    workdir=workdir,
    predictor=predictor,
    card=card,
    history=[line for line in metric_writer.read(workdir) if 'split' in line],
    starts=run_history.read(workdir),
    changed_keys=_changed_keys(config_lib.to_dict(predictor.config)),
  )


def _changed_keys(config: dict[str, Any]) -> list[tuple[str, str, str]]:
  values = config_lib.flatten(config)
  defaults = config_lib.flatten(config_lib.to_dict(default.get_config()))
  return [
    (key, repr(values[key]), repr(defaults.get(key, '(none)')))
    for key in sorted(values)
    if key not in defaults or values[key] != defaults[key]
  ]


def _number(value: Any) -> float | None:
  return float(value) if isinstance(value, int | float) else None
