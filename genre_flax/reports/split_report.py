"""The report of a split: metrics, predictions and a contact sheet."""

import shlex
from typing import Any

from etils import epath
import ml_collections
import numpy as np

from genre_flax import config as config_lib
from genre_flax.attribution import map_images
from genre_flax.data import drawing
from genre_flax.evaluation import metrics
from genre_flax.evaluation import stored_predictions
from genre_flax.inference import ensemble
from genre_flax.inference import predictions_csv
from genre_flax.inference import predictor as predictor_lib
from genre_flax.inference import scored_split as scored_lib
from genre_flax.reports import contact_sheet
from genre_flax.reports import split_metrics
from genre_flax.runtime import custom
from genre_flax.runtime import files
from genre_flax.runtime import text
from genre_flax.training import inputs

_NUM_SHOWN = 24  # On the contact sheet.
_NUM_PRINTED = 5


def write(
  scored: scored_lib.ScoredSplit,
  output: epath.Path,
  *,
  bootstrap_samples: int,
) -> dict[str, Any]:
  """Writes the metrics, the predictions and the contact sheet of a split.

  Raises:
    StorageError: `output` cannot be written to.
  """
  report = split_metrics.make_report(
    scored, bootstrap_samples=bootstrap_samples
  )
  with files.storage_errors(output):
    output.mkdir(parents=True, exist_ok=True)
  rows = list(zip(scored.ids, scored.scores, strict=True))
  files.write_atomic(
    output / predictions_csv.FILE_NAME,
    predictions_csv.to_csv(rows, calibration=scored.predictor.calibration),
  )
  stored_predictions.write(
    stored_predictions.StoredPredictions(
      split=scored.name,
      step=str(scored.predictor.step),
      ids=scored.ids,
      genres=scored.genres,
      constant_baseline={
        name: entry['constant_baseline']
        for name, entry in report['metrics'].items()
      },
      inputs=split_metrics.metric_inputs(scored),
    ),
    output,
  )
  contact_sheet.write(output, _some_posters(scored, None), genres=scored.genres)
  split_metrics.write(report, output)
  return report


def evaluate(
  predictor: predictor_lib.Predictor | ensemble.Ensemble,
  split: str,
  *,
  data_dir: str,
  output: epath.Path,
  batch_size: int,
  bootstrap_samples: int,
  explain: bool,
  explain_by: str | None,
) -> None:
  """Scores a split, writes its report, and prints a summary.

  All hosts call it; the main one writes and prints.

  Raises:
    InputError: there is no such dataset or split, or its genres differ.
    StorageError: `output` cannot be written to.
  """
  scored = scored_lib.score_split(
    predictor, predictor.open_dataset(data_dir), split, batch_size=batch_size
  )
  if scored is None:
    return
  report = write(scored, output, bootstrap_samples=bootstrap_samples)
  print(
    f'Split {split}: {len(scored)} posters, checkpoint'
    f' {predictor.step} ({predictor.which})\n'
  )
  print(f'{split_metrics.format_metrics(report)}\n')
  print(f'{split_metrics.format_genres(report)}\n')
  if explain:
    maps = map_images.MapWriter(
      predictor, output / map_images.FOLDER, method=explain_by
    )
    posters = _some_posters(scored, predictor.image_shape)
    maps.write(posters)
    print(f'Attribution maps: {maps.folder} ({len(posters)} posters)')
  _print_paths(output)


def _some_posters(scored, input_shape) -> list[map_images.Poster]:
  return [
    map_images.Poster(
      name=scored.ids[i],
      image=scored.decode(i, drawing.POSTER_SHAPE),
      pixels=scored.decode(i, input_shape) if input_shape else None,
      scores=scored.scores[i],
      labels=scored.labels[i],
      lines=scored.records[i].text,
    )
    for i in scored.spread(_NUM_SHOWN)
  ]


def _print_paths(output) -> None:
  print(f'Contact sheet: {output / contact_sheet.FILE_NAME}')
  print(f'Metrics:       {output / split_metrics.FILE_NAME}')


def evaluate_best(
  config: ml_collections.ConfigDict, workdir: epath.Path, *, again: bool = True
) -> None:
  """Evaluates the best checkpoint of a training on the test split.

  All hosts call it; the main one writes the reports of the split and of the
  training into the workdir, and prints a summary. Without `again`, a workdir
  that has these reports is left as it is.
  """
  # The checkpoint may name other code than the config that was just trained.
  own = custom.names(config_lib.flatten(config.to_dict()))
  predictor = predictor_lib.restore(
    workdir, step='best', allow_custom_code=tuple(own.values())
  )
  split = config.dataset.test_split
  step, genres = predictor.step, predictor.genres
  stored = split_metrics.read_any(workdir, step=step, genres=genres)
  is_known = stored and (stored['split'], stored['step']) == (split, step)
  if is_known and not again:
    print(
      f'{workdir / split_metrics.FILE_NAME} has the scores of the finished run.'
      ' To score it again: python -m genre_flax.top3'
      f' --workdir={shlex.quote(str(workdir))} --split={split}'
    )
    return
  scored = scored_lib.score_split(
    predictor,
    inputs.open_dataset(config, workdir),
    split,
    batch_size=config.eval_batch_size or config.batch_size,
  )
  if scored is None:
    return
  report = write(scored, workdir, bootstrap_samples=config.bootstrap_samples)
  which = 'best' if config.dataset.validation_split else 'last'
  print(
    f'\nThe {which} checkpoint (step {predictor.step}) on the'
    f' {len(scored)} posters of the split {split}:\n'
  )
  print(f'{split_metrics.format_metrics(report)}\n')
  print('Top-3 predictions of some posters:')
  for i in scored.spread(_NUM_PRINTED):
    scores, labels = scored.scores[i], scored.labels[i]
    line = split_metrics.format_top3(scored.ids[i], scores, scored.genres)
    genres = ', '.join(scored.genres[j] for j in np.flatnonzero(labels))
    num_correct = int(labels[metrics.top_k(scores[None])[0]].sum())
    print(
      f'  {line}   (labels: {text.printable(genres)}; {num_correct} correct)'
    )
  print()
  _print_paths(workdir)
  if config.report:
    from genre_flax.reports.html import report as html_report  # Slow to import.
    from genre_flax.reports.html import runs

    path = html_report.write(
      [runs.Run(workdir, predictor, scored, report)],
      workdir / html_report.FILE_NAME,
      bootstrap_samples=config.bootstrap_samples,
    )
    print(f'Report:        {path}   (open it in a browser)')
  _print_next(
    config,
    workdir,
    is_custom=bool({'model.name', 'objective.name'} & own.keys()),
  )


def _print_next(config, workdir, *, is_custom) -> None:
  """Prints the command for other posters."""
  flag = ' --allow_custom_code' if is_custom else ''
  if config.dataset.synthetic_posters:
    print('This network is trained on synthetic posters only. To predict the')
    print('genres of film posters with a released model:')
    print('  python -m genre_flax.top3 POSTER.jpg')
    return
  print('To predict the genres of other posters:')
  print(
    '  python -m genre_flax.top3'
    f' --model={shlex.quote(str(workdir))}{flag} POSTER.jpg'
  )
