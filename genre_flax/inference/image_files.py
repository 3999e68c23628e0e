"""Names the genres of image files."""

import collections
from collections.abc import Iterator, Sequence
import contextlib
import csv
import dataclasses
import io
import itertools
import os
import sys

from etils import epath
import numpy as np
import tqdm

from genre_flax.attribution import map_files
from genre_flax.data import preprocess
from genre_flax.datasets.posters import images
from genre_flax.inference import ensemble
from genre_flax.inference import predictions
from genre_flax.inference import predictor as predictor_lib
from genre_flax.reports import contact_sheet
from genre_flax.reports import decisions
from genre_flax.reports import split_metrics
from genre_flax.runtime import errors
from genre_flax.runtime import files as files_lib
from genre_flax.runtime import text
from genre_flax.runtime import threads

UNREADABLE_CSV = 'unreadable.csv'
AnyPredictor = predictor_lib.Predictor | ensemble.Ensemble
_SUFFIXES = ('.jpg', '.jpeg', '.png', '.webp', '.gif')


@dataclasses.dataclass(frozen=True)
class Result:
  """What was found of one file.

  Attributes:
    path: of the file.
    pixels: uint8 [H, W, 3], of the input size of the network, or of the first
      of several; None where it is unreadable.
    scores: float64 [num_genres], probabilities; None as well.
    error: why the file is unreadable, or None.
  """

  path: epath.Path
  pixels: np.ndarray | None
  scores: np.ndarray | None
  error: str | None


def name_genres(
  predictor: AnyPredictor,
  paths: Sequence[str],
  *,
  output: epath.Path | None,
  batch_size: int,
  resume: bool = False,
  explain: bool = False,
  explain_by: str | None = None,
) -> int:
  """Prints the three likeliest genres of each file.

  Args:
    predictor: of `ensemble.combine`.
    paths: image files, and folders of them.
    output: folder for predictions.csv, decisions.csv, unreadable.csv where a
      file is, and a contact sheet; None for no files, and no maps.
    batch_size: files a step.
    resume: whether to go on with a table that was stopped in `output`.
    explain: whether to write maps of where the network looked, into the folder
      maps of `output`.
    explain_by: the method, see `explain.Explainer`.

  Returns:
    The exit status: 0, or 1 where a file could not be read.

  Raises:
    InputError: a folder has no image in it.
    StorageError: `output` cannot be written to.
  """
  files = find(paths)
  table, rest = None, files
  if output is not None:
    table = predictions.Growing(
      output,
      genres=predictor.genres,
      checkpoint=predictor.checksum(),
      resume=resume,
    )
    rest = _without(files, table.names)
  maps = None
  if explain:
    maps = map_files.MapFiles(
      predictor, output / map_files.FOLDER, method=explain_by
    )
  unreadable = []
  results = predict_files(predictor, rest, batch_size=batch_size)
  with _telling_what_is_kept(table):
    results = _with_progress(results, len(rest), 'Scoring')
    for group in _in_groups(results, batch_size):
      readable = [r for r in group if r.error is None]
      unreadable += [r for r in group if r.error is not None]
      if maps is not None:
        # Before the rows: what has a row is not looked at again.
        posters = [_to_explain(result) for result in readable]
        maps.write(posters, first=len(table.names))
      if table is not None:
        table.add([(result.path, result.scores) for result in readable])
      for result in group:
        _print(result, predictor.genres)
    written = []
    if table is not None:
      written += _finish(table, files, unreadable, output, predictor)
  for path in written:
    print(f'Wrote {path}')
  if unreadable:
    print(f'{len(unreadable)} file(s) could not be read.', file=sys.stderr)
  return 1 if unreadable else 0


@contextlib.contextmanager
def _telling_what_is_kept(table):
  try:
    yield
  except BaseException:
    if table is not None and table.names:
      print(
        f'{len(table.names):,} rows are in {table.path}; the same command with'
        ' --resume goes on after them.',
        file=sys.stderr,
      )
    raise


def _print(result, genres):
  shown = str(result.path)
  if result.error is None:
    print(
      split_metrics.format_top_three(shown, result.scores, genres), flush=True
    )
  else:
    line = f'error: {text.printable(shown)}: {text.printable(result.error)}'
    print(line, file=sys.stderr)


def _without(
  files: Sequence[epath.Path], names: Sequence[str]
) -> list[epath.Path]:
  """The files that have no row yet; one that is named twice has two."""
  done = collections.Counter(names)
  rest = []
  for file in files:
    name = predictions.name_of(file)
    if done[name]:
      done[name] -= 1
    else:
      rest.append(file)
  return rest


def _with_progress(results, total, title):
  """A bar on a terminal whose lines go elsewhere."""
  is_shown = sys.stderr.isatty() and not sys.stdout.isatty()
  return tqdm.tqdm(results, title, total, disable=not is_shown)


def _in_groups(results, size):
  results = iter(results)
  while group := list(itertools.islice(results, size)):
    yield group


def _finish(table, files, unreadable, output, predictor):
  """Writes what is written in the end; yields the paths."""
  listed = output / UNREADABLE_CSV
  if unreadable:
    rows = io.StringIO()
    writer = csv.writer(rows, lineterminator='\n')
    writer.writerow(['file', 'reason'])
    for result in unreadable:
      cells = (str(result.path), result.error)
      writer.writerow(map(text.for_spreadsheet, cells))
    files_lib.write_atomic(listed, rows.getvalue())
    yield listed
  else:
    listed.unlink(missing_ok=True)
  by_name = {predictions.name_of(file): file for file in files}
  entries = [
    entry
    for name, scores in table.first
    if (entry := _entry(by_name.get(name), scores)) is not None
  ]
  if entries:
    sheet = output / contact_sheet.FILE_NAME
    files_lib.write_atomic(
      sheet, contact_sheet.draw(entries, genres=predictor.genres)
    )
    yield sheet
  decided = output / decisions.FILE_NAME
  decisions.write(
    decided,
    _with_progress(table.read(), len(table.names), 'Deciding'),
    calibration=predictor.calibration,
  )
  yield decided
  # Last: until then the same command need not score anything again.
  yield table.finish()


def _entry(file, scores) -> contact_sheet.Entry | None:
  """A picture of the sheet; None where the file is gone meanwhile."""
  if file is None:
    return None
  image = _decode(file, contact_sheet.IMAGE_SHAPE)
  if not isinstance(image, np.ndarray):
    return None
  return contact_sheet.Entry(
    image=image, scores=scores, labels=None, name=file.name
  )


def _to_explain(result) -> map_files.Poster:
  entry = _entry(result.path, result.scores)
  if entry is None:
    entry = contact_sheet.Entry(
      result.pixels, result.scores, None, result.path.name
    )
  return map_files.Poster(entry, result.pixels)


def find(paths: Sequence[str]) -> list[epath.Path]:
  """The files that are named, and the images below the folders that are.

  Raises:
    InputError: a folder has no image in it, or cannot be read.
  """
  files = []
  for path in map(epath.Path, paths):
    if not _is_dir(path):
      files.append(path)
      continue
    found = [
      file for file in _walk(path, set()) if file.suffix.lower() in _SUFFIXES
    ]
    if not found:
      raise errors.InputError(
        f'There is no image in {path}: no file that ends in'
        f' {", ".join(_SUFFIXES)}.'
      )
    files += found
  return files


def _walk(folder: epath.Path, seen: set[str]) -> Iterator[epath.Path]:
  """All files below a folder, sorted; each folder once, if links loop."""
  place = str(folder)
  if not files_lib.is_remote(folder):
    place = os.path.realpath(folder)
  if place in seen:
    return
  seen.add(place)
  try:
    paths = sorted(folder.iterdir())
  except OSError as e:
    raise errors.InputError(
      f'The folder {folder} cannot be read: {e.strerror or e}.'
    ) from e
  for path in paths:
    if _is_dir(path):
      yield from _walk(path, seen)
    else:
      yield path


def _is_dir(path: epath.Path) -> bool:
  try:
    return path.is_dir()
  except (OSError, ValueError):
    return False  # What is wrong with it is told when it is read.


def predict_files(
  predictor: AnyPredictor, files: Sequence[epath.Path], *, batch_size: int
) -> Iterator[Result]:
  """Scores files in batches; an unreadable one is a result with an error.

  Args:
    predictor: one network or several, each of which reads a file for itself.
    files: to read.
    batch_size: files a step.

  Yields:
    A result for each file, in order.
  """
  if not isinstance(predictor, ensemble.Ensemble):
    yield from _predict_by_one(predictor, files, batch_size)
    return
  of_each = [
    _predict_by_one(member, files, batch_size) for member in predictor.members
  ]
  for results in zip(*of_each, strict=True):
    unreadable = next((r for r in results if r.error is not None), None)
    scores = None
    if unreadable is None:
      scores = ensemble.mean_scores([r.scores for r in results])
    yield dataclasses.replace(unreadable or results[0], scores=scores)


def _predict_by_one(predictor, files, batch_size):
  # The network need not be run on more images than there are.
  batch_size = predictor.fit_batch_size(max(1, min(batch_size, len(files))))
  decoded = threads.map_in_order(
    lambda file: _decode(file, predictor.image_shape), files
  )
  files = iter(files)
  for group in _in_groups(decoded, batch_size):
    readable = [image for image in group if isinstance(image, np.ndarray)]
    scores = iter(())
    if readable:
      scores = iter(
        predictor.predict(np.stack(readable), batch_size=batch_size)
      )
    for image in group:
      if isinstance(image, np.ndarray):
        yield Result(next(files), image, next(scores), None)
      else:
        yield Result(next(files), None, None, str(image))


def _decode(file, image_shape):
  height, width = image_shape
  try:
    return preprocess.decode_and_resize(
      images.read(file), height=height, width=width
    )
  except images.BadImageError as e:
    return e
