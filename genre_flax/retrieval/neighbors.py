"""Which posters of the training split a network takes for alike.

Two posters are as similar as the angle between their features is small. The
features of the training split are computed once and kept in the workdir, with
what is needed to show the posters, so that the data set may be elsewhere later.
"""

from collections.abc import Sequence
import dataclasses
import json
import sys

from absl import logging
from etils import epath
import numpy as np
import tqdm

from genre_flax.data import preprocess
from genre_flax.datasets.posters import storage
from genre_flax.inference import predictor as predictor_lib
from genre_flax.reports import pictures
from genre_flax.retrieval import embedder as embedder_lib
from genre_flax.runtime import checksums
from genre_flax.runtime import errors
from genre_flax.runtime import files
from genre_flax.runtime import threads

FOLDER = 'index'
# (height, width) of the pictures of the index, in pixels.
THUMBNAIL_SHAPE = 144, 96
_AT_A_TIME = 32
# Of the index, so that one of another form is made anew.
_FORM = 1
# Rows that are compared at once: their features are in memory as float32.
_ROWS = 1 << 15


@dataclasses.dataclass(frozen=True)
class Neighbour:
  """A poster that is similar to another.

  Attributes:
    id: of the poster.
    genres: indices of those that it has.
    similarity: the cosine of the angle between the features, -1 to 1.
    thumbnail: a JPEG file's bytes.
  """

  id: str
  genres: tuple[int, ...]
  similarity: float
  thumbnail: bytes


@dataclasses.dataclass(frozen=True)
class Index:
  """Posters to compare with.

  Attributes:
    ids: of the N posters.
    labels: bool [N, num_genres].
    features: float16 [N, num_features], of length 1 about `mean`.
    mean: float32 [num_features]; what all posters have in common says nothing.
    thumbnails: JPEG files of THUMBNAIL_SHAPE.
  """

  ids: Sequence[str]
  labels: np.ndarray
  features: np.ndarray
  mean: np.ndarray
  thumbnails: Sequence[bytes]

  def __len__(self) -> int:
    return len(self.ids)

  def nearest(self, features: np.ndarray, *, number: int) -> list[Neighbour]:
    """The most similar posters.

    Args:
      features: float32 [num_features], of `embedder.Embedder.embed`.
      number: how many, at most.

    Returns:
      The posters, the most similar first.
    """
    [query] = _directions(features[None], self.mean)
    cosines = np.concatenate(
      [
        self.features[start : start + _ROWS].astype(np.float32) @ query
        for start in range(0, len(self), _ROWS)
      ]
    )
    order = np.argsort(-cosines, kind='stable')[:number]
    return [
      Neighbour(
        self.ids[i],
        tuple(np.flatnonzero(self.labels[i]).tolist()),
        float(cosines[i]),
        self.thumbnails[i],
      )
      for i in order
    ]


def _directions(features, mean):
  """float32 [N, F] of length 1, or of 0 where a poster is the mean itself."""
  centred = features - mean
  lengths = np.linalg.norm(centred, axis=1, keepdims=True)
  return centred / np.where(lengths > 0, lengths, 1)


def open_index(
  predictor: predictor_lib.Predictor,
  embedder: embedder_lib.Embedder,
  *,
  workdir: epath.Path,
  data_dir: str,
) -> Index:
  """Reads the index of a checkpoint, or makes and keeps it.

  Args:
    predictor: of `predictor_lib.restore`.
    embedder: of it.
    workdir: of the run; the index is WORKDIR/index/STEP.npz.
    data_dir: of the data set, should the index have to be made; '' for that of
      the training.

  Returns:
    The index of the training split.

  Raises:
    InputError: it has to be made, and the data set is not there, is damaged, or
      is another than the one that the network was trained on.
  """
  key = checksums.of_json([_FORM, predictor.checksum(), predictor.fingerprint])
  path = workdir / FOLDER / f'{predictor.step}.npz'
  index = _read(path, key, predictor, embedder)
  if index is not None:
    return index
  dataset = storage.open_dataset(data_dir or predictor.data_dir(workdir))
  if dataset.card['fingerprint'] != predictor.fingerprint:
    raise errors.InputError(
      f'The data set in {dataset.data_dir} is not the one that the network was'
      f' trained on: its fingerprint is {dataset.card["fingerprint"]}, expected'
      f' {predictor.fingerprint}.'
    )
  index = _make(predictor, embedder, dataset)
  try:
    with files.storage_errors(path):
      path.parent.mkdir(parents=True, exist_ok=True)
    _write(path, key, index)
  except errors.StorageError as e:
    logging.warning('The index of similar posters is not kept: %s', e)
  else:
    logging.info('The index of similar posters is kept in %s.', path)
  return index


def _make(predictor, embedder, dataset) -> Index:
  records = dataset.open_split(predictor.config.dataset.train_split)
  height, width = predictor.image_shape

  def read(number):
    record = records[number]
    pixels = preprocess.decode_and_resize(
      record.image, height=height, width=width
    )
    return record.id, record.labels > 0, pixels, _thumbnail(record.image)

  ids, labels, thumbnails, pixels, features = [], [], [], [], []
  with tqdm.tqdm(
    total=len(records),
    desc='Index of similar posters',
    disable=not sys.stderr.isatty(),
  ) as bar:
    for id_, genres, image, thumbnail in threads.map_in_order(
      read, range(len(records))
    ):
      ids.append(id_)
      labels.append(genres)
      thumbnails.append(thumbnail)
      pixels.append(image)
      if len(pixels) == _AT_A_TIME or len(ids) == len(records):
        # All groups have one shape, so that they share one program.
        rows = np.resize(np.arange(len(pixels)), _AT_A_TIME)
        made = embedder.embed(np.stack(pixels)[rows])[: len(pixels)]
        features.append(made)
        bar.update(len(pixels))
        pixels.clear()
  features = np.concatenate(features)
  mean = features.mean(axis=0)
  return Index(
    ids=ids,
    labels=np.stack(labels),
    features=_directions(features, mean).astype(np.float16),
    mean=mean,
    thumbnails=thumbnails,
  )


def _thumbnail(content: bytes) -> bytes:
  height, width = THUMBNAIL_SHAPE
  pixels = preprocess.decode_and_resize(content, height=height, width=width)
  return pictures.to_jpeg(pixels)


def _write(path: epath.Path, key: str, index: Index) -> None:
  with files.replace_file(path) as beside, beside.open('wb') as file:
    np.savez(
      file,
      key=key,
      ids=_to_bytes(json.dumps(list(index.ids)).encode()),
      labels=index.labels,
      features=index.features,
      mean=index.mean,
      thumbnails=_to_bytes(b''.join(index.thumbnails)),
      sizes=np.array([len(thumbnail) for thumbnail in index.thumbnails]),
    )


def _to_bytes(content: bytes) -> np.ndarray:
  return np.frombuffer(content, np.uint8)


def _read(path, key, predictor, embedder) -> Index | None:
  """The index that is kept; None where there is none that can be used."""
  if not path.exists():
    logging.info('There is no index of similar posters yet: it is made.')
    return None
  try:
    # The format has a checksum of each array.
    with path.open('rb') as file, np.load(file) as stored:
      if str(stored['key']) != key:
        logging.warning(
          '%s is of another network or data set, and made anew.', path
        )
        return None
      ends = np.cumsum(stored['sizes'])
      content = stored['thumbnails'].tobytes()
      index = Index(
        ids=[str(id_) for id_ in json.loads(stored['ids'].tobytes())],
        labels=stored['labels'],
        features=stored['features'],
        mean=stored['mean'],
        thumbnails=[
          content[start:end]
          for start, end in zip([0, *ends[:-1]], ends, strict=True)
        ],
      )
      _check(index, predictor, embedder)
      return index
  except Exception as e:  # The bytes decide what is raised.
    logging.warning('%s is damaged, and made anew: %s', path, e)
    return None


def _check(index, predictor, embedder):
  """Raises a ValueError where the parts do not fit one another."""
  number, num_features = len(index.ids), embedder.num_features
  expected = {
    'labels': ((number, len(predictor.genres)), bool),
    'features': ((number, num_features), np.float16),
    'mean': ((num_features,), np.float32),
  }
  for name, (shape, dtype) in expected.items():
    array = getattr(index, name)
    if array.shape != shape or array.dtype != dtype:
      raise ValueError(f'{name} are {array.dtype} {array.shape}')
  if not number or len(index.thumbnails) != number:
    raise ValueError(f'{len(index.thumbnails)} pictures of {number} posters')
