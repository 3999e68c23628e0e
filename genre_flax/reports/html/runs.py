"""The runs that a report is made of: restored, and scored where that can be."""

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
  """A run.

  Attributes:
    workdir: of the run.
    predictor: restored from it.
    scored: the split to report on; None where its data set is not there.
    metrics: of `split_metrics.make_report`, with 'split' and 'step'; None where
      they were never computed.
  """

  workdir: epath.Path
  predictor: predictor_lib.Predictor
  scored: scored_lib.ScoredSplit | None
  metrics: dict[str, Any] | None

  @property
  def data_dir(self) -> str:
    """Where the data set is, or should be."""
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
  """Restores a run, and scores a split of its data set.

  Args:
    workdir: of the run.
    split: its name.
    step: of the checkpoint, as `predictor_lib.restore` takes it.
    data_dir: of the split; '' for that of the training.
    batch_size: posters a step.
    bootstrap_samples: resamples behind the intervals.
    allow_custom_code: as in `predictor_lib.restore`.

  Returns:
    The run. Where the data set of the training is not there any more, it has
    the metrics that the workdir keeps, and no posters.

  Raises:
    InputError: there is no such run or split, or `data_dir` is no data set.
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
      'The report has no posters, and the metrics that the workdir keeps: %s'
      ' --data_dir names another place.',
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
