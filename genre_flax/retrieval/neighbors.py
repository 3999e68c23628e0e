"""The nearest posters of the training split.

The similarity of two posters is the cosine of the angle between their
embeddings. The index, which holds the embeddings, labels and thumbnails of the
training split, is computed once and stored in the workdir; the dataset is not
needed afterwards.
"""

from collections.abc import Sequence
import dataclasses
import json
import sys

from absl import logging
from etils import epath
import numpy as np
import tqdm

from genre_flax.checkpoints import released
from genre_flax.data import drawing
from genre_flax.data import image_decoding
from genre_flax.datasets.posters import storage
from genre_flax.inference import predictor as predictor_lib
from genre_flax.retrieval import embedder as embedder_lib
from genre_flax.runtime import checksums
from genre_flax.runtime import errors
from genre_flax.runtime import files
from genre_flax.runtime import threads

FOLDER = 'index'
# (height, width) of the thumbnails, in pixels.
THUMBNAIL_SHAPE = 144, 96
_BATCH_SIZE = 32
_FORMAT_VERSION = 1
# Rows to compare at a time: their embeddings are in memory as float32.
_ROWS = 1 << 15


@dataclasses.dataclass(frozen=True)
class Neighbor:
  """A poster that is similar to a query.

  Attributes:
    id: of the poster.
    genres: indices of its genres.
    similarity: cosine of the angle between the embeddings, in [-1, 1].
    thumbnail: a JPEG file.
  """

  id: str
  genres: tuple[int, ...]
  similarity: float
  thumbnail: bytes


@dataclasses.dataclass(frozen=True)
class Index:
  """Embeddings, labels and thumbnails of N posters.

  Attributes:
    ids: of the posters.
    labels: bool [N, num_genres].
    features: float16 [N, num_features], embeddings minus `mean`, of length 1.
    mean: float32 [num_features], the mean embedding.
    thumbnails: JPEG files of THUMBNAIL_SHAPE.
  """

  ids: Sequence[str]
  labels: np.ndarray
  features: np.ndarray
  mean: np.ndarray
  thumbnails: Sequence[bytes]

  def __len__(self) -> int:
    return len(self.ids)

  def nearest(self, embedding: np.ndarray, *, number: int) -> list[Neighbor]:
    """The most similar posters, in order of decreasing similarity."""
    [query] = _unit_vectors(embedding[None] - self.mean)
    similarities = np.concatenate(
      [
        self.features[start : start + _ROWS].astype(np.float32) @ query
        for start in range(0, len(self), _ROWS)
      ]
    )
    order = np.argsort(-similarities, kind='stable')[:number]
    return [
      Neighbor(
        self.ids[i],
        tuple(np.flatnonzero(self.labels[i]).tolist()),
        float(similarities[i]),
        self.thumbnails[i],
      )
      for i in order
    ]


def _unit_vectors(vectors):
  """Vectors [N, F] divided by their lengths; zero vectors stay zero."""
  lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
  return vectors / np.where(lengths > 0, lengths, 1)


def open_index(
  predictor: predictor_lib.Predictor,
  embedder: embedder_lib.Embedder,
  *,
  workdir: epath.Path,
  data_dir: str,
) -> Index:
  """Reads the index of a training split; computes and stores it if necessary.

  It is WORKDIR/index/STEP.npz, or in the user's cache for a released model. An
  empty `data_dir` is that of the training.

  Raises:
    InputError: there is no valid index, and the dataset is missing, damaged, or
      not the one of the training.
  """
  key = checksums.of_json(
    [_FORMAT_VERSION, predictor.checksum(), predictor.fingerprint]
  )
  folder = workdir
  if released.find(str(workdir)) is not None:
    folder = epath.Path(files.cache_dir()) / predictor.checksum()
  path = folder / FOLDER / f'{predictor.step}.npz'
  index = _read(path, key, predictor, embedder)
  if index is not None:
    return index
  dataset = predictor.open_dataset(data_dir or predictor.data_dir(workdir))
  if not storage.has_posters_of(dataset.card, predictor.fingerprint):
    raise errors.InputError(
      f'The dataset in {dataset.data_dir} has the fingerprint'
      f' {dataset.card["fingerprint"]}; the network was trained on'
      f' {predictor.fingerprint}.'
    )
  index = _compute(predictor, embedder, dataset)
  try:
    with files.storage_errors(path):
      path.parent.mkdir(parents=True, exist_ok=True)
    _write(path, key, index)
  except errors.StorageError as e:
    logging.warning('The index of nearest posters cannot be stored: %s', e)
  else:
    logging.info('Stored the index of nearest posters in %s.', path)
  return index


def _compute(predictor, embedder, dataset) -> Index:
  records = dataset.open_split(predictor.config.dataset.train_split)

  def read(number):
    record = records[number]
    pixels, thumbnail = (
      image_decoding.decode_and_resize(record.image, height=height, width=width)
      for height, width in (predictor.image_shape, THUMBNAIL_SHAPE)
    )
    return record.id, record.labels > 0, drawing.to_jpeg(thumbnail), pixels

  ids, labels, thumbnails, pixels, embeddings = [], [], [], [], []
  with tqdm.tqdm(
    total=len(records),
    desc='Index of nearest posters',
    disable=not sys.stderr.isatty(),
  ) as bar:
    for id_, genres, thumbnail, image in threads.map_in_order(
      read, range(len(records))
    ):
      ids.append(id_)
      labels.append(genres)
      thumbnails.append(thumbnail)
      pixels.append(image)
      if len(pixels) == _BATCH_SIZE or len(ids) == len(records):
        # All batches have one shape, so that one compiled program serves them.
        rows = np.resize(np.arange(len(pixels)), _BATCH_SIZE)
        batch = embedder.embed(np.stack(pixels)[rows])
        embeddings.append(batch[: len(pixels)])
        bar.update(len(pixels))
        pixels.clear()
  embeddings = np.concatenate(embeddings)
  mean = embeddings.mean(axis=0)
  return Index(
    ids=ids,
    labels=np.stack(labels),
    features=_unit_vectors(embeddings - mean).astype(np.float16),
    mean=mean,
    thumbnails=thumbnails,
  )


def _write(path: epath.Path, key: str, index: Index) -> None:
  with files.replace_file(path) as temporary, temporary.open('wb') as file:
    np.savez(
      file,
      key=key,
      ids=np.frombuffer(json.dumps(list(index.ids)).encode(), np.uint8),
      labels=index.labels,
      features=index.features,
      mean=index.mean,
      thumbnails=np.frombuffer(b''.join(index.thumbnails), np.uint8),
      sizes=np.array([len(thumbnail) for thumbnail in index.thumbnails]),
    )


def _read(path, key, predictor, embedder) -> Index | None:
  """Reads a stored index; None if it is missing, outdated or damaged."""
  if not path.exists():
    logging.info('Computing the index of nearest posters.')
    return None
  try:
    # The format has a checksum for each array.
    with path.open('rb') as file, np.load(file) as stored:
      if str(stored['key']) != key:
        logging.warning(
          '%s belongs to another network or dataset and is recomputed.', path
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
    number, num_features = len(index.ids), embedder.num_features
    arrays = (index.labels, index.features, index.mean)
    expected = [
      ((number, len(predictor.genres)), np.bool_),
      ((number, num_features), np.float16),
      ((num_features,), np.float32),
    ]
    shapes = [(array.shape, array.dtype) for array in arrays]
    if shapes != expected or not 0 < number == len(index.thumbnails):
      raise ValueError('its arrays have other shapes or types than expected')
    return index
  except Exception as e:  # Damaged bytes may raise anything.
    logging.warning('%s is damaged and is recomputed: %s', path, e)
    return None
