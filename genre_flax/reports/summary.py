"""A checkpoint's results on a split: files to keep and text to read."""

import dataclasses
from typing import Any

from etils import epath
import numpy as np

from genre_flax.attribution import explain_split
from genre_flax.datasets.posters import storage
from genre_flax.evaluation import metrics
from genre_flax.inference import ensemble
from genre_flax.inference import predictions as predictions_lib
from genre_flax.inference import predictor as predictor_lib
from genre_flax.inference import scored_split as scored_lib
from genre_flax.reports import contact_sheet
from genre_flax.reports import decisions
from genre_flax.reports import split_metrics
from genre_flax.runtime import files
from genre_flax.runtime import text

_NUM_ON_SHEET = 24


@dataclasses.dataclass(frozen=True)
class Summary:
  """What `summarize` found, and where it was written.

  Attributes:
    report: of `split_metrics.make_report`, with 'split' and 'step'.
    metrics_path: of metrics.json.
    sheet_path: of the contact sheet.
    examples: a few posters' top threes, a line each.
  """

  report: dict[str, Any]
  metrics_path: epath.Path
  sheet_path: epath.Path
  examples: tuple[str, ...]


def summarize(
  scored: scored_lib.ScoredSplit, *, output: epath.Path, bootstrap_samples: int
) -> Summary:
  """Writes metrics, scores, decisions and a contact sheet of a split.

  Args:
    scored: the split.
    output: folder to write to; made where it does not exist.
    bootstrap_samples: resamples behind the intervals.

  Returns:
    The summary.

  Raises:
    StorageError: `output` cannot be written to.
  """
  report = {
    'split': scored.name,
    'step': scored.predictor.step,
    **split_metrics.make_report(
      scored.predictions,
      calibration=scored.predictor.calibration,
      label_prior=scored.predictor.label_prior,
      constant_answers=scored.predictor.constant_answers,
      bootstrap_samples=bootstrap_samples,
    ),
  }
  with files.storage_errors(output):
    output.mkdir(parents=True, exist_ok=True)
  rows = list(zip(scored.ids, scored.scores, strict=True))
  predictions_lib.write(
    output / predictions_lib.FILE_NAME, rows, genres=scored.genres
  )
  decisions.write(
    output / decisions.FILE_NAME,
    rows,
    calibration=scored.predictor.calibration,
  )
  shown = scored.spread(_NUM_ON_SHEET)
  sheet_path = output / contact_sheet.FILE_NAME
  files.write_atomic(
    sheet_path,
    contact_sheet.draw(list(map(scored.entry, shown)), genres=scored.genres),
  )
  return Summary(
    report=report,
    metrics_path=split_metrics.write_report(report, output),
    sheet_path=sheet_path,
    examples=tuple(_describe_example(scored, i) for i in shown[:5]),
  )


def evaluate_and_print(
  predictor: predictor_lib.Predictor | ensemble.Ensemble,
  split: str,
  *,
  workdir: epath.Path,
  data_dir: str,
  output: epath.Path | None,
  batch_size: int,
  bootstrap_samples: int,
  explain: bool,
  explain_by: str | None,
) -> None:
  """Evaluates a split, writes its summary, and prints what came out.

  All hosts call it; the main one prints.

  Args:
    predictor: of `ensemble.combine`.
    split: its name.
    workdir: of the run.
    data_dir: of the split; '' for that of the training.
    output: folder to write to; None for WORKDIR/eval/SPLIT_STEP.
    batch_size: posters a step over all hosts.
    bootstrap_samples: resamples behind the intervals.
    explain: whether to write and judge maps of where the network looked.
    explain_by: the method, see `explain.Explainer`.

  Raises:
    InputError: there is no such data set or split, or it has other genres.
  """
  scored = scored_lib.score_split(
    predictor,
    storage.open_dataset(data_dir or predictor.data_dir(workdir)),
    split,
    batch_size=batch_size,
  )
  if scored is None:
    return
  output = output or workdir / 'eval' / f'{split}_{predictor.step}'
  result = summarize(scored, output=output, bootstrap_samples=bootstrap_samples)
  print(
    f'Split {split}: {len(scored)} posters, checkpoint'
    f' {predictor.step} ({predictor.which})\n'
  )
  print(f'{split_metrics.format_metrics(result.report)}\n')
  print(f'{split_metrics.format_genres(result.report)}\n')
  if explain:
    print(explain_split.explain(scored, output=output, method=explain_by))
  print(f'Metrics:       {result.metrics_path}')
  print(f'Contact sheet: {result.sheet_path}')


def _describe_example(scored: scored_lib.ScoredSplit, index: int) -> str:
  scores, labels = scored.scores[index], scored.labels[index]
  truth = ', '.join(scored.genres[i] for i in np.flatnonzero(labels))
  truth = text.printable(truth)
  line = split_metrics.format_top_three(
    scored.ids[index], scores, scored.genres
  )
  right = int(labels[metrics.top_k(scores[None])[0]].sum())
  return f'{line}   (is {truth}: {right} right)'
