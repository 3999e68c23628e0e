"""Names the genres of image files."""

from collections.abc import Iterator, Sequence
from concurrent import futures
import dataclasses
import os
import sys

from etils import epath
import numpy as np

from genre_flax.data import preprocess
from genre_flax.datasets.posters import images
from genre_flax.results import contact_sheet
from genre_flax.results import predict
from genre_flax.results import report
from genre_flax.results import summary
from genre_flax.runtime import errors

_SUFFIXES = ('.jpg', '.jpeg', '.png', '.webp', '.gif')
_MAX_ON_SHEET = 60


@dataclasses.dataclass(frozen=True)
class Result:
  """What was found of one file.

  Attributes:
    path: of the file.
    image: uint8 [H, W, 3] as the network saw it; None where it is unreadable.
    scores: float64 [num_genres], probabilities; None likewise.
    error: why the file is unreadable, or None.
  """

  path: epath.Path
  image: np.ndarray | None
  scores: np.ndarray | None
  error: str | None


def name_genres(
  predictor: predict.Predictor,
  paths: Sequence[str],
  *,
  output: epath.Path | None,
  batch_size: int,
) -> int:
  """Prints the three likeliest genres of each file.

  Args:
    predictor: of `predict.restore`.
    paths: image files, and folders of them.
    output: folder for predictions.csv and a contact sheet, or None.
    batch_size: files a step.

  Returns:
    The exit status: 0, or 1 where a file could not be read.

  Raises:
    InputError: a folder has no image in it.
  """
  collector = Collector(predictor.genres)
  num_bad = 0
  for result in predict_files(predictor, find(paths), batch_size=batch_size):
    if result.error is not None:
      num_bad += 1
      print(f'error: {result.path}: {result.error}', file=sys.stderr)
      continue
    print(
      report.format_top_three(str(result.path), result.scores, predictor.genres)
    )
    if output is not None:
      collector.add(result)
  if output is not None and collector.num_results:
    for path in collector.write(output):
      print(f'Wrote {path}')
  if num_bad:
    print(f'{num_bad} file(s) could not be read.', file=sys.stderr)
  return 1 if num_bad else 0


def find(paths: Sequence[str]) -> list[epath.Path]:
  """The files that are named, and the images below the folders that are.

  Raises:
    InputError: a folder has no image in it.
  """
  files = []
  for path in map(epath.Path, paths):
    if not path.is_dir():
      files.append(path)
      continue
    found = [file for file in _walk(path) if file.suffix.lower() in _SUFFIXES]
    if not found:
      raise errors.InputError(
        f'There is no image in {path}: no file that ends in'
        f' {", ".join(_SUFFIXES)}.'
      )
    files += found
  return files


def _walk(folder: epath.Path) -> Iterator[epath.Path]:
  """All files below a folder, sorted."""
  for path in sorted(folder.iterdir()):
    if path.is_dir():
      yield from _walk(path)
    else:
      yield path


def predict_files(
  predictor: predict.Predictor, files: Sequence[epath.Path], *, batch_size: int
) -> Iterator[Result]:
  """Scores files in batches; an unreadable one is a result with an error.

  Args:
    predictor: of `predict.restore`.
    files: to read.
    batch_size: files a step.

  Yields:
    A result for each file, in order.
  """
  batch_size = predictor.fit_batch_size(batch_size)
  with futures.ThreadPoolExecutor(os.cpu_count()) as pool:
    for start in range(0, len(files), batch_size):
      group = files[start : start + batch_size]
      decoded = list(
        pool.map(lambda f: _decode(f, predictor.image_shape), group)
      )
      readable = [image for image in decoded if isinstance(image, np.ndarray)]
      scores = iter(())
      if readable:
        scores = iter(
          predictor.predict(np.stack(readable), batch_size=batch_size)
        )
      for file, image in zip(group, decoded, strict=True):
        if isinstance(image, np.ndarray):
          yield Result(file, image, next(scores), None)
        else:
          yield Result(file, None, None, str(image))


def _decode(file, image_shape):
  height, width = image_shape
  try:
    return preprocess.decode_and_resize(
      images.read(file), height=height, width=width
    )
  except images.BadImageError as e:
    return e


class Collector:
  """Keeps results for predictions.csv and a contact sheet."""

  def __init__(self, genres: Sequence[str]):
    self._genres = genres
    self._names: list[str] = []
    self._scores: list[np.ndarray] = []
    self._entries: list[contact_sheet.Entry] = []

  @property
  def num_results(self) -> int:
    """Number of results added."""
    return len(self._names)

  def add(self, result: Result) -> None:
    """Adds the result of a readable file."""
    self._names.append(str(result.path))
    self._scores.append(result.scores)
    if len(self._entries) < _MAX_ON_SHEET:
      self._entries.append(
        contact_sheet.Entry(
          image=result.image,
          scores=result.scores,
          labels=None,
          name=result.path.name,
        )
      )

  def write(self, folder: epath.Path) -> list[epath.Path]:
    """Writes both files into `folder`, and returns their paths."""
    folder.mkdir(parents=True, exist_ok=True)
    table = folder / summary.PREDICTIONS_CSV
    summary.write_predictions(
      table, self._names, np.stack(self._scores), self._genres
    )
    sheet = folder / summary.CONTACT_SHEET
    sheet.write_bytes(contact_sheet.draw(self._entries, genres=self._genres))
    return [table, sheet]
