"""Builds a prepared dataset from label tables and image folders."""

import collections
import contextlib
import tempfile
from typing import Any

from absl import logging
from etils import epath

from genre_flax.datasets.posters import collection as collection_lib
from genre_flax.datasets.posters import data_card
from genre_flax.datasets.posters import image_search
from genre_flax.datasets.posters import images
from genre_flax.datasets.posters import problems as problems_lib
from genre_flax.datasets.posters import sources as sources_lib
from genre_flax.datasets.posters import storage
from genre_flax.datasets.posters import synthetic
from genre_flax.datasets.posters import text_card
from genre_flax.datasets.posters import text_reading
from genre_flax.datasets.posters import writing
from genre_flax.runtime import errors
from genre_flax.runtime import files

PROBLEMS_CSV = 'problems.csv'
_IMAGE_ADVICE = (
  'Name a column of image paths with --image_column, or describe how the paths'
  ' follow from the ids with --image_pattern.'
)


def build(
  *sources: sources_lib.Source,
  data_dir: epath.PathLike,
  skip_bad: bool = False,
  overwrite: bool = False,
  dry_run: bool = False,
  progress: collection_lib.Progress = collection_lib.no_progress,
  text_reader: str | None = None,
  **options: Any,
) -> dict[str, Any]:
  """Reads, validates, splits and stores posters.

  Args:
    *sources: label tables and image folders.
    data_dir: the folder to write to.
    skip_bad: skip rows with problems instead of raising an error.
    overwrite: replace another dataset in `data_dir`.
    dry_run: read and validate everything, but write nothing.
    progress: shows the progress over posters and records.
    text_reader: engine of `poster_text.load_engine` to read the text on the
      posters with, '' for the default; None to read no text.
    **options: of `collection.collect`, such as shares and max_side.

  Returns:
    The data card.

  Raises:
    InputError: there are problems (listed in `data_dir`/problems.csv), or no
      dataset can be built.
    BusyError: another process writes to `data_dir`.
    StorageError: `data_dir` cannot be written to.
  """
  data_dir = epath.Path(data_dir)
  with contextlib.ExitStack() as stack:
    reader = None
    if text_reader is not None:
      reader = stack.enter_context(text_reading.TextReader(text_reader))
    scratch = epath.Path(
      stack.enter_context(
        tempfile.TemporaryDirectory(prefix='genre_flax_')
        if dry_run
        else writing.scratch_folder(data_dir)
      )
    )
    spool = scratch / 'converted'
    spool.mkdir()
    collection = collection_lib.collect(
      sources, spool=spool, progress=progress, **options
    )
    _report_problems(collection, data_dir, skip_bad=skip_bad, dry_run=dry_run)
    collection.require_usable()
    card = data_card.make(collection)
    if reader is not None:
      card = text_card.with_engine(card, reader.name)
    if dry_run:
      if reader is not None:
        reader.log_plan(collection.examples)
      return card
    if writing.is_present(card, data_dir=data_dir, overwrite=overwrite):
      logging.info('%s contains this dataset already.', data_dir)
      return storage.read_card(data_dir)
    if reader is not None:
      collection, card = reader.add_to(collection, card=card, progress=progress)
    writing.write(
      collection,
      card=card,
      data_dir=data_dir,
      scratch=scratch,
      overwrite=overwrite,
      progress=progress,
    )
    return card


def _report_problems(
  collection: collection_lib.Collection,
  data_dir: epath.Path,
  *,
  skip_bad: bool,
  dry_run: bool,
) -> None:
  """Writes all problems to a file; raises an error unless they are skipped."""
  problems = collection.problems
  path = data_dir / PROBLEMS_CSV
  if not problems:
    if not dry_run:
      path.unlink(missing_ok=True)  # Of an earlier run.
    return
  lines = [problems_lib.summarize(problems)]
  if dry_run:
    lines.append(f'Without --dry_run the full list is written to {path}.')
  else:
    try:
      files.write_atomic(path, problems_lib.to_csv(problems))
      lines.append(f'The full list is in {path}.')
    except errors.StorageError as e:
      lines.append(f'The full list could not be written. {e}')
  missing = collections.Counter(
    problem.file for problem in problems if problem.kind == images.MISSING
  )
  for source, one in zip(
    collection.sources, collection.annotations, strict=True
  ):
    if 2 * missing[str(source.csv)] > one.num_rows and not source.layout:
      flags = image_search.find_flags(source)
      lines.append(
        f'Most images of {source.csv} are not in {source.images}. '
        + (f'These flags find them: {flags}' if flags else _IMAGE_ADVICE)
      )
  if not skip_bad:
    raise errors.InputError(
      '\n'.join(lines) + '\nNo dataset was written. Correct these rows, or skip'
      ' them with --on_error=skip.'
    )
  logging.warning('%s\nThese rows are skipped.', '\n'.join(lines))


def build_synthetic(
  *, data_dir: epath.PathLike, num_posters: int, seed: int = 0, **options: Any
) -> dict[str, Any]:
  """Generates synthetic posters and builds a dataset of them.

  Args:
    data_dir: the folder to write to.
    num_posters: number of posters to generate.
    seed: seed of the posters.
    **options: of `build`. Without options, a dataset of the same synthetic
      posters in `data_dir` is used as it is.

  Returns:
    The data card.

  Raises:
    InputError: `data_dir` contains other posters.
  """
  name = f'synthetic posters (number {num_posters}, seed {seed})'
  if not options and storage.dataset_path(data_dir).exists():
    card = storage.read_card(data_dir)
    present = card['sources'][0]['csv']
    if present == name:
      return card
    raise errors.InputError(
      f'{data_dir} contains other posters: {present}; expected {name}. Choose'
      ' another folder; for training, another --workdir.'
    )
  logging.info('Generating %d synthetic posters.', num_posters)
  with tempfile.TemporaryDirectory(prefix='genre_flax_') as folder:
    csv, image_folder = synthetic.write_posters(
      folder, num_posters=num_posters, seed=seed
    )
    source = sources_lib.Source(csv, image_folder, name=name)
    return build(source, data_dir=data_dir, **options)
