"""Makes a prepared data set of a poster collection, from start to end."""

from collections.abc import Mapping, Sequence
import contextlib
import tempfile
from typing import Any

from absl import logging
from etils import epath

from genre_flax.datasets.posters import collection as collection_lib
from genre_flax.datasets.posters import data_card
from genre_flax.datasets.posters import image_columns
from genre_flax.datasets.posters import problems as problems_lib
from genre_flax.datasets.posters import sources as sources_lib
from genre_flax.datasets.posters import splits
from genre_flax.datasets.posters import storage
from genre_flax.datasets.posters import synthetic
from genre_flax.datasets.posters import writing
from genre_flax.runtime import errors
from genre_flax.runtime import files

PROBLEMS_CSV = 'problems.csv'


def build(
  *sources: sources_lib.Source,
  data_dir: epath.PathLike,
  shares: Mapping[str, int] = splits.DEFAULT_SHARES,
  exclude_genres: Sequence[str] = (),
  genre_names: Mapping[str, str] | None = None,
  max_side: int | None = None,
  skip_bad: bool = False,
  overwrite: bool = False,
  dry_run: bool = False,
  progress: collection_lib.Progress = lambda items, total, description: items,
) -> dict[str, Any]:
  """Reads, checks, splits and stores a collection.

  Args:
    *sources: the CSV files and the image folders.
    data_dir: the folder to write to.
    shares: percent of each split; they sum up to 100.
    exclude_genres: labels to drop.
    genre_names: what to call a genre instead.
    max_side: larger images are scaled down to it, in pixels.
    skip_bad: go on without the rows that have a problem.
    overwrite: replace another data set that is there.
    dry_run: read and check everything, and write no data set.
    progress: shows how far the images are.

  Returns:
    The data card.

  Raises:
    InputError: there is a problem (all of them are then listed in
      `data_dir`/problems.csv), or no data set can be made.
    BusyError: another program writes to `data_dir`.
    StorageError: it cannot be written to.
  """
  data_dir = epath.Path(data_dir)
  with contextlib.ExitStack() as stack:
    if dry_run:
      scratch = stack.enter_context(
        tempfile.TemporaryDirectory(prefix='genre_flax_')
      )
    else:
      scratch = stack.enter_context(writing.working_in(data_dir))
    spool = epath.Path(scratch) / 'converted'
    spool.mkdir()
    collection = collection_lib.collect(
      sources,
      shares=shares,
      spool=spool,
      exclude_genres=exclude_genres,
      genre_names=genre_names,
      max_side=max_side,
      progress=progress,
    )
    _report(collection, data_dir, skip_bad=skip_bad, dry_run=dry_run)
    collection_lib.require_usable(collection)
    card = data_card.make(collection)
    if not dry_run and not writing.write(
      collection,
      card=card,
      data_dir=data_dir,
      partial=epath.Path(scratch),
      overwrite=overwrite,
      progress=progress,
    ):
      logging.info('%s holds this very data set already.', data_dir)
    return card


def _report(
  collection: collection_lib.Collection,
  data_dir: epath.Path,
  *,
  skip_bad: bool,
  dry_run: bool,
) -> None:
  """Lists all problems in a file, and fails unless they are to be skipped."""
  problems = collection.problems
  full_list = data_dir / PROBLEMS_CSV
  if not problems:
    if not dry_run:
      full_list.unlink(missing_ok=True)  # Those of an earlier run are mended.
    return
  if dry_run:
    where = f'Without --dry_run all are written to {full_list}.'
  else:
    try:
      files.write_atomic(full_list, problems_lib.to_csv(problems))
      where = f'All are in {full_list}.'
    except errors.StorageError as e:
      where = f'They could not be listed. {e}'
  hints = image_columns.hints(
    collection.sources, problems, num_posters=collection.num_posters
  )
  summary = '\n'.join([problems_lib.summarize(problems), where, *hints])
  if not skip_bad:
    raise errors.InputError(
      f'{summary}\nNothing was prepared. Mend them, or go on without these rows'
      ' with --on_error=skip.'
    )
  logging.warning('%s\nGoing on without them.', summary)


def build_synthetic(
  *, data_dir: epath.PathLike, num_posters: int, seed: int = 0, **options: Any
) -> dict[str, Any]:
  """Draws synthetic posters and prepares them as any other collection.

  Args:
    data_dir: the folder to write to.
    num_posters: how many to draw.
    seed: of the collection.
    **options: of `build`. Without any, nothing is done if `data_dir` holds
      these posters already.

  Returns:
    The data card.

  Raises:
    InputError: `data_dir` holds other posters.
  """
  name = f'synthetic posters (number {num_posters}, seed {seed})'
  if not options and storage.dataset_path(data_dir).exists():
    card = storage.read_card(data_dir)
    held = card['sources'][0]['csv']
    if held == name:
      return card
    raise errors.InputError(
      f'{data_dir} holds other posters: {held}, where these are to be: {name}.'
      ' Choose another folder; for a training, another --workdir.'
    )
  logging.info('Drawing %d synthetic posters.', num_posters)
  with tempfile.TemporaryDirectory(prefix='genre_flax_') as folder:
    csv, images = synthetic.write_posters(
      folder, num_posters=num_posters, seed=seed
    )
    source = sources_lib.Source(csv, images, name=name)
    return build(source, data_dir=data_dir, **options)
