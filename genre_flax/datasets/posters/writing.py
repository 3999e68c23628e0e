"""Writes a data set: whole or not at all, and one program at a time."""

from collections.abc import Iterator
import contextlib
import io
import json
import tempfile
from typing import Any
import uuid

from absl import logging
from etils import epath
import tensorflow_datasets as tfds

from genre_flax.datasets.posters import collection as collection_lib
from genre_flax.datasets.posters import data_card
from genre_flax.datasets.posters import manifest
from genre_flax.datasets.posters import posters_dataset_builder
from genre_flax.datasets.posters import problems as problems_lib
from genre_flax.datasets.posters import staging
from genre_flax.datasets.posters import storage
from genre_flax.runtime import errors
from genre_flax.runtime import files
from genre_flax.runtime import lock

CARD_MARKDOWN = 'data_card.md'
SKIPPED_CSV = 'skipped.csv'
_PARTIAL = 'incomplete.'
_LOCK = '.lock'


@contextlib.contextmanager
def working_in(data_dir: epath.PathLike) -> Iterator[epath.Path]:
  """Keeps others out of a folder, and makes one in it for what is not whole.

  What an interrupted run left there is removed.

  Args:
    data_dir: that the data set is written to.

  Yields:
    The folder; it is removed at the end.

  Raises:
    BusyError: another program writes to `data_dir`.
    InputError: it cannot be a folder.
    StorageError: it cannot be written to.
  """
  _check_place(epath.Path(data_dir))
  if files.is_remote(data_dir):
    with tempfile.TemporaryDirectory(prefix='genre_flax_') as scratch:
      yield epath.Path(scratch)
    return
  place = storage.dataset_path(data_dir).parent
  with lock.hold(
    epath.Path(data_dir) / _LOCK,
    f'Another prepare (process {{pid}}) writes to {data_dir}. Wait for its end,'
    ' or choose another --data_dir.',
  ):
    for left in place.glob(f'{_PARTIAL}*'):
      logging.warning('Removing %s, left of a run that was interrupted.', left)
      left.rmtree()
    partial = place / f'{_PARTIAL}{uuid.uuid4().hex[:8]}'
    with files.storage_errors(partial):
      partial.mkdir(parents=True)
    try:
      yield partial
    finally:
      partial.rmtree(missing_ok=True)
      if not list(place.iterdir()):
        place.rmdir()


def _check_place(data_dir: epath.Path) -> None:
  """Raises InputError where `data_dir` cannot be a folder."""
  for path in (data_dir, *data_dir.parents):
    if path.exists():
      if not path.is_dir():
        raise errors.InputError(
          f'--data_dir={data_dir} cannot be made: {path} is a file; expected a'
          ' folder.'
        )
      return


def write(
  collection: collection_lib.Collection,
  *,
  card: dict[str, Any],
  data_dir: epath.PathLike,
  partial: epath.Path,
  overwrite: bool = False,
  progress: collection_lib.Progress = lambda items, total, description: items,
) -> bool:
  """Writes a collection as ArrayRecord files with its data card.

  All is written into a folder beside the final one, which gets its name last.
  So an interrupted run leaves nothing that reads as a data set.

  Args:
    collection: with at least one example.
    card: of `data_card.make`.
    data_dir: the folder that `open_dataset` takes.
    partial: of `working_in(data_dir)`.
    overwrite: whether to replace what is there, be it the same.
    progress: shows how far the writing is.

  Returns:
    False if this very data set was there already, and nothing was done.

  Raises:
    InputError: another data set is there.
    StorageError: it cannot be written.
  """
  final = storage.dataset_path(data_dir)
  if final.exists() and not overwrite:
    _require_same(final, card['fingerprint'], data_dir)
    return False
  with files.storage_errors(data_dir):
    written = _write_beside(collection, card, partial, progress)
    if files.is_remote(final):
      if final.exists():
        final.rmtree()
      staging.copy(written, final, last=storage.CARD_JSON)
    else:
      files.rename_folder(written, final)
  return True


def _write_beside(collection, card, partial, progress) -> epath.Path:
  """Writes all files of a data set; returns their folder."""
  _write_records(collection, card, partial, progress)
  # TFDS has laid its files out as NAME/VERSION once more.
  written = storage.dataset_path(partial)
  texts = {
    storage.CARD_JSON: json.dumps(card, indent=2) + '\n',
    CARD_MARKDOWN: data_card.to_markdown(card),
  }
  if collection.problems:
    texts[SKIPPED_CSV] = problems_lib.to_csv(collection.problems)
  for name, text in texts.items():
    files.write_atomic(written / name, text)
  manifest.write(written)
  return written


def _require_same(
  final: epath.Path, fingerprint: str, data_dir: epath.PathLike
) -> None:
  """Raises InputError where a folder holds anything but this data set."""
  present = _read_fingerprint(final)
  if present == fingerprint:
    return
  if present is None:
    what = f'something that is no data set: {final} has no {storage.CARD_JSON}'
  else:
    what = (
      f'another data set: its fingerprint is {present}, that of this one'
      f' {fingerprint}'
    )
  raise errors.InputError(
    f'{data_dir} holds {what}. Choose another --data_dir, or pass --overwrite'
    ' to replace it.'
  )


def _read_fingerprint(final: epath.Path) -> str | None:
  """That of the data set in a folder; None where there is no whole one."""
  try:
    return json.loads((final / storage.CARD_JSON).read_text())['fingerprint']
  except (OSError, ValueError, KeyError, TypeError):
    return None


def _write_records(collection, card, folder, progress):
  tfds.disable_progress_bar()
  builder = posters_dataset_builder.Builder(
    collection=collection, card=card, progress=progress, data_dir=folder
  )
  # TFDS prints about downloads, of which there are none.
  with contextlib.redirect_stdout(io.StringIO()):
    builder.download_and_prepare()
