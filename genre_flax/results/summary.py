"""A checkpoint's results on a split: files to keep and text to read."""

import dataclasses
from typing import Any

from etils import epath
import numpy as np

from genre_flax.data import preprocess
from genre_flax.datasets.posters import storage
from genre_flax.evaluation import metrics
from genre_flax.results import contact_sheet
from genre_flax.results import predict
from genre_flax.results import predictions as predictions_lib
from genre_flax.results import report as report_lib
from genre_flax.runtime import files
from genre_flax.runtime import parallel
from genre_flax.runtime import text

_NUM_ON_SHEET = 24


@dataclasses.dataclass(frozen=True)
class Summary:
  """What `summarize_split` found, and where it was written.

  Attributes:
    report: of `report.make_report`, with 'split' and 'step'.
    metrics_path: of metrics.json.
    sheet_path: of the contact sheet.
    examples: a few posters' top threes, a line each.
  """

  report: dict[str, Any]
  metrics_path: epath.Path
  sheet_path: epath.Path
  examples: tuple[str, ...]


def summarize_split(
  predictor: predict.Predictor,
  dataset: storage.PosterDataset,
  split: str,
  *,
  output: epath.Path,
  batch_size: int,
  bootstrap_samples: int,
) -> Summary | None:
  """Evaluates a split, and writes metrics, predictions and a contact sheet.

  All hosts call it.

  Args:
    predictor: of `predict.restore`.
    dataset: with the split.
    split: its name.
    output: folder to write to; made where it does not exist.
    batch_size: posters a step over all hosts, rounded up to fit the devices.
    bootstrap_samples: resamples behind the intervals.

  Returns:
    The summary on the main host, None on the others.

  Raises:
    InputError: the data set has no such split, or other genres.
  """
  predictions = predictor.evaluate_split(
    dataset, split, batch_size=predictor.fit_batch_size(batch_size)
  )
  if not parallel.is_main_host():
    return None
  report = {
    'split': split,
    'step': predictor.step,
    **report_lib.make_report(
      predictions,
      calibration=predictor.calibration,
      label_prior=predictor.label_prior,
      constant_answers=predictor.constant_answers,
      bootstrap_samples=bootstrap_samples,
    ),
  }
  scores = predictor.calibration.to_scores(predictions.logits)
  labels = predictions.labels
  records = dataset.open_split(split)
  with files.explaining(output):
    output.mkdir(parents=True, exist_ok=True)
  names = [records[i].id for i in range(len(records))]
  predictions_lib.write(
    output / predictions_lib.FILE_NAME,
    zip(names, scores, strict=True),
    genres=predictor.genres,
  )
  shown = _spread(len(records), _NUM_ON_SHEET)
  sheet_path = output / contact_sheet.FILE_NAME
  files.write_whole(
    sheet_path,
    contact_sheet.draw(
      [_entry(records[i], scores[i], labels[i]) for i in shown],
      genres=predictor.genres,
    ),
  )
  return Summary(
    report=report,
    metrics_path=report_lib.write_report(report, output),
    sheet_path=sheet_path,
    examples=tuple(
      _describe_example(names[i], scores[i], labels[i], predictor.genres)
      for i in shown[:5]
    ),
  )


def evaluate_and_print(
  predictor: predict.Predictor,
  split: str,
  *,
  workdir: epath.Path,
  data_dir: str,
  output: epath.Path | None,
  batch_size: int,
  bootstrap_samples: int,
) -> None:
  """Evaluates a split as `summarize_split` does, and prints what came out.

  All hosts call it; the main one prints.

  Args:
    predictor: of `predict.restore`.
    split: its name.
    workdir: of the run.
    data_dir: of the split; '' for that of the training.
    output: folder to write to; None for WORKDIR/eval/SPLIT_STEP.
    batch_size: posters a step over all hosts.
    bootstrap_samples: resamples behind the intervals.

  Raises:
    InputError: there is no such data set or split, or it has other genres.
  """
  result = summarize_split(
    predictor,
    storage.open_dataset(data_dir or predictor.data_dir(workdir)),
    split,
    output=output or workdir / 'eval' / f'{split}_{predictor.step}',
    batch_size=batch_size,
    bootstrap_samples=bootstrap_samples,
  )
  if result is None:
    return
  print(
    f'Split {split}: {result.report["num_examples"]} posters, checkpoint'
    f' {predictor.step} ({predictor.which})\n'
  )
  print(f'{report_lib.format_metrics(result.report)}\n')
  print(f'{report_lib.format_genres(result.report)}\n')
  print(f'Metrics:       {result.metrics_path}')
  print(f'Contact sheet: {result.sheet_path}')


def _spread(length: int, number: int) -> list[int]:
  """At most `number` indices, spread evenly over `length`."""
  number = min(length, number)
  return [i * length // number for i in range(number)]


def _entry(record, scores, labels):
  height, width = contact_sheet.IMAGE_SHAPE
  return contact_sheet.Entry(
    image=preprocess.decode_and_resize(
      record.image, height=height, width=width
    ),
    scores=scores,
    labels=labels,
    name=record.id,
  )


def _describe_example(name, scores, labels, genres):
  truth = ', '.join(genres[i] for i in np.flatnonzero(labels))
  truth = text.printable(truth)
  line = report_lib.format_top_three(name, scores, genres)
  right = int(labels[metrics.top_k(scores[None])[0]].sum())
  return f'{line}   (is {truth}: {right} right)'
