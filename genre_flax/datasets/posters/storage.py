"""A prepared data set on disk: written whole or not at all, then only read."""

from collections.abc import Sequence
import contextlib
import dataclasses
import io
import json
import tempfile
from typing import Any
import uuid

from absl import logging
from etils import epath
import numpy as np
import tensorflow_datasets as tfds

from genre_flax.datasets.posters import collection as collection_lib
from genre_flax.datasets.posters import data_card
from genre_flax.datasets.posters import posters_dataset_builder
from genre_flax.datasets.posters import problems as problems_lib
from genre_flax.datasets.posters import staging
from genre_flax.runtime import errors

CARD_JSON = 'data_card.json'
CARD_MARKDOWN = 'data_card.md'
SKIPPED_CSV = 'skipped.csv'
_PARTIAL = 'incomplete.'


def dataset_path(data_dir: epath.PathLike) -> epath.Path:
  """Where the files lie below `data_dir`, as TFDS lays them out."""
  return (
    epath.Path(data_dir)
    / posters_dataset_builder.NAME
    / posters_dataset_builder.VERSION
  )


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
  final = dataset_path(data_dir)
  if final.exists() and not overwrite:
    present = _read_fingerprint(final)
    if present == card['fingerprint']:
      return False
    if present is None:
      what = f'something that is no data set: {final} has no {CARD_JSON}'
    else:
      what = (
        f'another data set: its fingerprint is {present}, that of this one'
        f' {card["fingerprint"]}'
      )
    raise errors.InputError(
      f'{data_dir} holds {what}. Choose another --data_dir, or pass --overwrite'
      ' to replace it.'
    )
  if staging.is_remote(final):
    with tempfile.TemporaryDirectory() as scratch:
      write(collection, card=card, data_dir=scratch)
      if final.exists():
        final.rmtree()
      staging.copy(dataset_path(scratch), final, last=CARD_JSON)
    return True
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
    written = dataset_path(partial)
    texts = {
      CARD_JSON: json.dumps(card, indent=2) + '\n',
      CARD_MARKDOWN: data_card.to_markdown(card),
    }
    if collection.problems:
      texts[SKIPPED_CSV] = problems_lib.to_csv(collection.problems)
    for name, text in texts.items():
      (written / name).write_text(text, encoding='utf-8')
    _publish(written, final, replaced=partial / 'replaced', overwrite=overwrite)
  finally:
    partial.rmtree(missing_ok=True)
  return True


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
    return json.loads((final / CARD_JSON).read_text())['fingerprint']
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


def read_card(data_dir: epath.PathLike) -> dict[str, Any]:
  """The data card of the data set in `data_dir`.

  Raises:
    InputError: there is no data set, or its card is damaged.
  """
  path = dataset_path(data_dir) / CARD_JSON
  if not path.exists():
    raise errors.InputError(
      f'{data_dir or "(empty)"} holds no prepared data set: there is no {path}.'
      ' Make one with `python -m genre_flax.prepare --csv=FILE --images=FOLDER'
      ' --data_dir=FOLDER`.'
    )
  try:
    return json.loads(path.read_text())
  except ValueError as e:
    raise errors.InputError(
      f'The data card {path} is damaged: {e}. Run prepare again with'
      ' --overwrite.'
    ) from None


@dataclasses.dataclass(frozen=True)
class Record:
  """One stored poster.

  Attributes:
    id: of the film.
    image: the bytes of an RGB JPEG.
    labels: float32 [num_genres] of 0 and 1.
  """

  id: str
  image: bytes
  labels: np.ndarray


class Split:
  """Random access to the records of one split; safe to use from threads.

  Attributes:
    num_genres: number of labels.
  """

  def __init__(self, source: Sequence[dict[str, Any]], num_genres: int):
    self._source = source
    self.num_genres = num_genres

  def __len__(self) -> int:
    return len(self._source)

  def __getitem__(self, index: int) -> Record:
    stored = self._source[int(index)]
    labels = np.zeros(self.num_genres, np.float32)
    labels[np.asarray(stored['genres'], int)] = 1.0
    return Record(stored['id'].decode(), stored['image'], labels)


@dataclasses.dataclass(frozen=True)
class PosterDataset:
  """A prepared data set.

  Attributes:
    data_dir: where it lies.
    card: the data card.
  """

  data_dir: str
  card: dict[str, Any]

  @property
  def genres(self) -> tuple[str, ...]:
    """The label names, in the order of the labels."""
    return tuple(self.card['genres'])

  @property
  def label_prior(self) -> np.ndarray:
    """[num_genres], the share of positives in the training split."""
    return np.asarray(self.card['label_prior'])

  def num_examples(self, split: str) -> int:
    """Number of posters in `split`.

    Raises:
      InputError: there is no such split.
    """
    splits = self.card['splits']
    if split not in splits:
      raise errors.InputError(
        f'The data set in {self.data_dir} has no split {split!r}; it has'
        f' {list(splits)}.'
      )
    return splits[split]['num_examples']

  def open_split(self, split: str) -> Split:
    """Opens the records of `split`.

    Raises:
      InputError: there is no such split, or its files are damaged.
    """
    expected = self.num_examples(split)
    folder = dataset_path(self.data_dir)
    if staging.is_remote(folder):
      folder = staging.fetch(folder, key=self.card['fingerprint'])
    try:
      builder = tfds.builder_from_directory(str(folder))
      source = builder.as_data_source(
        split=split, decoders={'image': tfds.decode.SkipDecoding()}
      )
      source[0]  # The files are opened only now.
    except (OSError, RuntimeError, ValueError) as e:
      raise errors.InputError(
        f'The split {split!r} in {self.data_dir} is damaged: {e}. Run prepare'
        ' again with --overwrite.'
      ) from e
    if len(source) != expected:
      raise errors.InputError(
        f'The split {split!r} in {self.data_dir} has {len(source)} records; its'
        f' data card says {expected}. Run prepare again with --overwrite.'
      )
    return Split(source, len(self.genres))


def open_dataset(data_dir: epath.PathLike) -> PosterDataset:
  """Opens the data set that prepare wrote into `data_dir`.

  Raises:
    InputError: there is none.
  """
  return PosterDataset(str(data_dir), read_card(data_dir))
