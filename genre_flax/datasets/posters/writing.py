"""Writes a dataset atomically, one process at a time."""

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
from genre_flax.datasets.posters import storage
from genre_flax.runtime import errors
from genre_flax.runtime import files
from genre_flax.runtime import lock

CARD_MARKDOWN = 'data_card.md'
SKIPPED_CSV = 'skipped.csv'
_SCRATCH_PREFIX = 'incomplete.'
_LOCK = '.lock'


@contextlib.contextmanager
def scratch_folder(data_dir: epath.PathLike) -> Iterator[epath.Path]:
  """Locks a dataset's folder, and creates a temporary folder in it.

  Temporary folders of interrupted runs are deleted.

  Args:
    data_dir: folder of the dataset.

  Yields:
    The temporary folder, which is deleted at the end. For a dataset on cloud
    storage it is on the local disk.

  Raises:
    BusyError: another process writes to `data_dir`.
    InputError: `data_dir` cannot be a folder.
    StorageError: `data_dir` cannot be written to.
  """
  data_dir = epath.Path(data_dir)
  for path in (data_dir, *data_dir.parents):
    if path.exists() and not path.is_dir():
      raise errors.InputError(
        f'--data_dir={data_dir} cannot be created: {path} is a file; expected a'
        ' folder.'
      )
  if files.is_remote(data_dir):
    with tempfile.TemporaryDirectory(prefix='genre_flax_') as scratch:
      yield epath.Path(scratch)
    return
  parent = storage.dataset_path(data_dir).parent
  with lock.hold(
    data_dir / _LOCK,
    f'Another prepare (process {{pid}}) writes to {data_dir}. Wait until it has'
    ' finished, or choose another --data_dir.',
  ):
    for left in parent.glob(f'{_SCRATCH_PREFIX}*'):
      logging.warning('Deleting %s of an interrupted run.', left)
      left.rmtree()
    scratch = parent / f'{_SCRATCH_PREFIX}{uuid.uuid4().hex[:8]}'
    with files.storage_errors(scratch):
      scratch.mkdir(parents=True)
    try:
      yield scratch
    finally:
      scratch.rmtree(missing_ok=True)
      if not list(parent.iterdir()):
        parent.rmdir()


def is_present(
  card: dict[str, Any], *, data_dir: epath.PathLike, overwrite: bool
) -> bool:
  """Whether a folder contains a dataset already, which is to be kept.

  The same posters without text may be replaced by those with text.

  Args:
    card: of the dataset.
    data_dir: the folder that `open_dataset` takes.
    overwrite: whether to replace any dataset.

  Raises:
    InputError: `data_dir` contains another dataset.
  """
  path = storage.dataset_path(data_dir)
  if overwrite or not path.exists():
    return False
  try:
    present = json.loads((path / storage.CARD_JSON).read_text())
    fingerprint = present['fingerprint']
    base = present.get('base_fingerprint')
  except (OSError, ValueError, KeyError, TypeError):
    fingerprint = base = 'missing or damaged'
  if card['fingerprint'] in (fingerprint, base):
    return True
  if card.get('base_fingerprint') == fingerprint:
    return False
  raise errors.InputError(
    f'{data_dir} contains another dataset: its fingerprint is {fingerprint},'
    f' expected {card["fingerprint"]}. Choose another --data_dir, or pass'
    ' --overwrite to replace it.'
  )


def write(
  collection: collection_lib.Collection,
  *,
  card: dict[str, Any],
  data_dir: epath.PathLike,
  scratch: epath.Path,
  overwrite: bool = False,
  progress: collection_lib.Progress = collection_lib.no_progress,
) -> bool:
  """Writes a collection as ArrayRecord files with its data card.

  All files are written to `scratch`, which is renamed at the end. An
  interrupted run therefore leaves no incomplete dataset.

  Args:
    collection: a collection with at least one example.
    card: the card of `data_card.make`.
    data_dir: the folder that `open_dataset` takes.
    scratch: the folder of `scratch_folder(data_dir)`.
    overwrite: whether to replace an existing dataset, even the same one.
    progress: shows the progress over the records.

  Returns:
    False if `data_dir` contains this dataset already, and nothing was written.

  Raises:
    InputError: `data_dir` contains another dataset.
    StorageError: the dataset cannot be written.
  """
  if is_present(card, data_dir=data_dir, overwrite=overwrite):
    return False
  final = storage.dataset_path(data_dir)
  with files.storage_errors(data_dir):
    written = _write_files(collection, card, scratch, progress)
    if files.is_remote(final):
      if final.exists():
        final.rmtree()
      storage.copy(written, final, last=storage.CARD_JSON)
    else:
      files.rename_folder(written, final)
  return True


def _write_files(collection, card, scratch, progress) -> epath.Path:
  """Writes all files of a dataset; returns their folder."""
  tfds.disable_progress_bar()
  builder = posters_dataset_builder.Builder(
    collection=collection, card=card, progress=progress, data_dir=scratch
  )
  # TFDS prints messages about downloads, of which there are none.
  with contextlib.redirect_stdout(io.StringIO()):
    builder.download_and_prepare()
  written = storage.dataset_path(scratch)
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
