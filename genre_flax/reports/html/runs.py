"""The runs of a report: restored checkpoints with a scored split."""

import dataclasses
from typing import Any

from absl import logging
from etils import epath

from genre_flax.datasets.posters import storage
from genre_flax.inference import predictor as predictor_lib
from genre_flax.inference import scored_split as scored_lib
from genre_flax.reports import split_metrics
from genre_flax.runtime import errors


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
  def data_dir(self) -> str:
    """The folder of the dataset, which may be missing."""
    if self.scored is not None:
      return str(self.scored.dataset.data_dir)
    return self.predictor.data_dir(self.workdir)


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

  Args:
    workdir: of the run.
    split: its name.
    step: of the checkpoint, as in `predictor_lib.restore`.
    data_dir: the dataset; '' for that of the training.
    batch_size: posters per step.
    bootstrap_samples: number of resamples; 0 for no intervals.
    allow_custom_code: as in `predictor_lib.restore`.

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
    dataset = storage.open_dataset(data_dir or predictor.data_dir(workdir))
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
