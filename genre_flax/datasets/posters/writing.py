"""Writes a data set: whole or not at all."""

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
from genre_flax.datasets.posters import posters_dataset_builder
from genre_flax.datasets.posters import problems as problems_lib
from genre_flax.datasets.posters import staging
from genre_flax.datasets.posters import storage
from genre_flax.runtime import errors

CARD_MARKDOWN = 'data_card.md'
SKIPPED_CSV = 'skipped.csv'
_PARTIAL = 'incomplete.'


def write(
  collection: collection_lib.Collection,
  *,
  card: dict[str, Any],
  data_dir: epath.PathLike,
  overwrite: bool = False,
) -> bool:
  """Writes a collection as ArrayRecord files with its data card.

  All is written into a folder beside the final one, which gets its name last.
  So an interrupted run leaves nothing that reads as a data set, and of two runs
  at a time one fails.

  Args:
    collection: with at least one example.
    card: of `data_card.make`.
    data_dir: the folder that `open_dataset` takes.
    overwrite: whether to replace what is there, be it the same.

  Returns:
    False if this very data set was there already, and nothing was done.

  Raises:
    InputError: another data set is there, or `data_dir` cannot be written to.
  """
  final = storage.dataset_path(data_dir)
  if final.exists() and not overwrite:
    _require_same(final, card['fingerprint'], data_dir)
    return False
  if staging.is_remote(final):
    with tempfile.TemporaryDirectory() as scratch:
      write(collection, card=card, data_dir=scratch)
      if final.exists():
        final.rmtree()
      staging.copy(storage.dataset_path(scratch), final, last=storage.CARD_JSON)
    return True
  _write_here(collection, card, final, overwrite=overwrite)
  return True


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


def _write_here(
  collection: collection_lib.Collection,
  card: dict[str, Any],
  final: epath.Path,
  *,
  overwrite: bool,
) -> None:
  """Writes all into a folder beside the final one, and then renames it."""
  make_folder(final.parent)
  for other in final.parent.glob(f'{_PARTIAL}*'):
    logging.warning(
      '%s is left of a run that was interrupted, or belongs to one that still'
      ' runs. Delete it if none does.',
      other,
    )
  partial = final.parent / f'{_PARTIAL}{uuid.uuid4().hex[:8]}'
  make_folder(partial)
  try:
    _write_records(collection, card, partial)
    # TFDS has laid its files out as NAME/VERSION once more.
    written = storage.dataset_path(partial)
    texts = {
      storage.CARD_JSON: json.dumps(card, indent=2) + '\n',
      CARD_MARKDOWN: data_card.to_markdown(card),
    }
    if collection.problems:
      texts[SKIPPED_CSV] = problems_lib.to_csv(collection.problems)
    for name, text in texts.items():
      (written / name).write_text(text, encoding='utf-8')
    _publish(written, final, replaced=partial / 'replaced', overwrite=overwrite)
  finally:
    partial.rmtree(missing_ok=True)


def _publish(
  written: epath.Path,
  final: epath.Path,
  *,
  replaced: epath.Path,
  overwrite: bool,
) -> None:
  """Gives a whole data set its name; what had the name is kept if it fails."""
  try:
    if overwrite and final.exists():
      final.rename(replaced)
    written.rename(final)
  except OSError as e:
    raise errors.InputError(
      f'{final} was made or changed while this data set was written; does'
      ' another prepare run into the same folder? Run prepare again.'
    ) from e
  finally:
    if replaced.exists() and not final.exists():
      replaced.rename(final)


def check_place(data_dir: epath.PathLike) -> None:
  """Raises InputError where `data_dir` cannot be a folder."""
  data_dir = epath.Path(data_dir)
  for path in (data_dir, *data_dir.parents):
    if path.exists():
      if not path.is_dir():
        raise errors.InputError(
          f'--data_dir={data_dir} cannot be made: {path} is a file; expected a'
          ' folder.'
        )
      return


def make_folder(path: epath.Path) -> None:
  """Makes a folder and those above it.

  Raises:
    InputError: it cannot be made.
  """
  try:
    path.mkdir(parents=True, exist_ok=True)
  except OSError as e:
    raise errors.InputError(
      f'The folder {path} cannot be made: {e.strerror or e}. Choose another'
      ' --data_dir.'
    ) from None


def _read_fingerprint(final: epath.Path) -> str | None:
  """That of the data set in a folder; None where there is no whole one."""
  try:
    return json.loads((final / storage.CARD_JSON).read_text())['fingerprint']
  except (OSError, ValueError, KeyError, TypeError):
    return None


def _write_records(collection, card, folder):
  tfds.disable_progress_bar()
  builder = posters_dataset_builder.Builder(
    collection=collection, card=card, data_dir=folder
  )
  # TFDS prints about downloads, of which there are none.
  with contextlib.redirect_stdout(io.StringIO()):
    builder.download_and_prepare()
