"""What a training ends with: its best checkpoint on the test split."""

from etils import epath
import ml_collections

from genre_flax.inference import predictor as predictor_lib
from genre_flax.inference import scored_split as scored_lib
from genre_flax.reports import split_metrics
from genre_flax.reports import summary
from genre_flax.runtime import custom
from genre_flax.training import inputs


def evaluate_best(
  config: ml_collections.ConfigDict, workdir: epath.Path
) -> None:
  """Evaluates the best checkpoint, prints its metrics, and says what is next.

  All hosts call it; the main one prints.

  Args:
    config: of the training.
    workdir: of the training; metrics, predictions, a contact sheet and the
      report are written into it.
  """
  predictor = predictor_lib.restore(
    workdir, step='best', allow_custom_code=True
  )
  split = config.dataset.test_split
  scored = scored_lib.score_split(
    predictor,
    inputs.open_dataset(config, workdir),
    split,
    batch_size=config.eval_batch_size or config.batch_size,
  )
  if scored is None:
    return
  result = summary.summarize(
    scored, output=workdir, bootstrap_samples=config.bootstrap_samples
  )
  print(
    f'\nThe best checkpoint (step {predictor.step}) on the'
    f' {len(scored)} posters of the split {split}:\n'
  )
  print(f'{split_metrics.format_metrics(result.report)}\n')
  print('Some of them, with the three likeliest genres:')
  for line in result.examples:
    print(f'  {line}')
  print(f'\nContact sheet: {result.sheet_path}')
  print(f'Metrics:       {result.metrics_path}')
  if config.report:
    from genre_flax.reports.html import render  # It is slow to import.
    from genre_flax.reports.html import sources

    path = render.write(
      [sources.Source(workdir, predictor, scored, result.report)],
      workdir / render.FILE_NAME,
      bootstrap_samples=config.bootstrap_samples,
    )
    print(f'Report:        {path}   (open it in a browser)')
  print('Next, name the genres of posters of your own:')
  is_custom = custom.is_custom(config.model.name)
  flag = ' --allow_custom_code' if is_custom else ''
  print(f'  python -m genre_flax.top3 --workdir={workdir}{flag} POSTER.jpg')
