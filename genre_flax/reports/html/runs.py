"""The runs of a report: checkpoints, scored splits and training histories."""

from collections.abc import Sequence
import dataclasses
import functools
from typing import Any

from absl import logging
from etils import epath

from configs import default
from genre_flax import config as config_lib
from genre_flax.datasets.posters import storage
from genre_flax.inference import predictor as predictor_lib
from genre_flax.inference import scored_split as scored_lib
from genre_flax.reports import split_metrics
from genre_flax.runtime import errors
from genre_flax.runtime import metric_writer
from genre_flax.training import run_history
from genre_flax.training import train_state


@dataclasses.dataclass(frozen=True)
class Run:
  """A run to report on.

  Attributes:
    workdir: of the run.
    predictor: restored from the workdir.
    scored: the split; None if the dataset is missing.
    metrics: of `split_metrics.make_report`; None if the run was not evaluated.
  """

  workdir: epath.Path
  predictor: predictor_lib.Predictor
  scored: scored_lib.ScoredSplit | None
  metrics: dict[str, Any] | None

  @property
  def name(self) -> str:
    """The last part of the path of the workdir."""
    return self.workdir.resolve().name

  @functools.cached_property
  def card(self) -> dict[str, Any] | None:
    """The data card of the dataset, or None if it is missing."""
    if self.scored is not None:
      return self.scored.dataset.card
    try:
      return storage.read_card(self.predictor.data_dir(self.workdir))
    except errors.InputError as e:
      logging.warning('The report has no data card: %s', e)
      return None

  @functools.cached_property
  def history(self) -> Sequence[metric_writer.Line]:
    """The metrics in metrics.jsonl."""
    return [
      line for line in metric_writer.read(self.workdir) if 'split' in line
    ]

  @functools.cached_property
  def starts(self) -> Sequence[dict[str, Any]]:
    """The starts of the training, of `run_history.read`."""
    return run_history.read(self.workdir)

  @property
  def changed_keys(self) -> list[tuple[str, str, str]]:
    """(key, value, default) of config keys that differ from the default."""
    values, defaults = (
      config_lib.flatten(config_lib.to_dict(config))
      for config in (self.predictor.config, default.get_config())
    )
    return [
      (key, repr(values[key]), repr(defaults.get(key, '(none)')))
      for key in sorted(values)
      if key not in defaults or values[key] != defaults[key]
    ]

  @property
  def num_params(self) -> int:
    """The number of parameters of the network."""
    return train_state.count_parameters(self.predictor.variables['params'])

  @property
  def num_steps(self) -> int:
    """The number of steps of the training."""
    return max((line['step'] for line in self.history), default=0)

  @property
  def batch_size(self) -> int:
    """Posters per step: of the last start, or else of the config."""
    start = self.starts[-1] if self.starts else {}
    given = _number(start.get('batch_size'))
    return int(given or self.predictor.config.batch_size)

  @property
  def seconds(self) -> float:
    """The time of training and validation, summed over all starts."""
    total, last = 0.0, 0
    for line in self.history:
      rate = _number(line.get('images_per_second'))
      if line['split'] == 'train' and rate:
        total += (line['step'] - last) * self.batch_size / rate
        last = line['step']
      elif line['split'] != 'train':
        total += _number(line.get('seconds')) or 0.0
    return total

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


def _number(value: Any) -> float | None:
  return float(value) if isinstance(value, int | float) else None


def open_run(
  workdir: epath.Path,
  split: str,
  *,
  step: str,
  data_dir: str,
  batch_size: int,
  bootstrap_samples: int,
  allow_custom_code: bool,
) -> Run:
  """Restores a checkpoint and scores a split.

  Returns:
    The run. If the dataset of the training is missing, it has no scored split,
    and the metrics that are stored in the workdir.

  Raises:
    InputError: there is no such run or split, or no dataset in `data_dir`.
  """
  predictor = predictor_lib.restore(
    workdir, step=step, allow_custom_code=allow_custom_code
  )
  try:
    dataset = predictor.open_dataset(data_dir or predictor.data_dir(workdir))
  except errors.InputError as e:
    if data_dir:
      raise
    logging.warning(
      'The report has no posters, since the dataset is missing: %s Set'
      ' --data_dir if the dataset was moved.',
      e,
    )
    metrics = split_metrics.read_any(
      workdir, step=predictor.step, genres=predictor.genres
    )
    return Run(workdir, predictor, None, metrics)
  logging.info('Scoring the split %s for %s.', split, workdir)
  scored = scored_lib.score_split(
    predictor, dataset, split, batch_size=batch_size
  )
  metrics = split_metrics.make_report(
    scored, bootstrap_samples=bootstrap_samples
  )
  return Run(workdir, predictor, scored, metrics)
