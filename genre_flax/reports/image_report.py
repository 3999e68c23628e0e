"""The report of image files: their top-3 predictions, printed and in files."""

from collections.abc import Sequence
import contextlib
import csv
import io
import json
import sys
from typing import NamedTuple

from etils import epath
import numpy as np
import tqdm

from genre_flax.attribution import map_images
from genre_flax.data import drawing
from genre_flax.evaluation import metrics
from genre_flax.inference import ensemble
from genre_flax.inference import image_files
from genre_flax.inference import predictions_csv
from genre_flax.inference import predictor as predictor_lib
from genre_flax.reports import contact_sheet
from genre_flax.reports import split_metrics
from genre_flax.runtime import files as files_lib
from genre_flax.runtime import text

UNREADABLE_CSV = 'unreadable.csv'
_NUM_SHOWN = 60  # On the contact sheet.


class LineFormat(NamedTuple):
  """The format of the printed line of an image.

  Attributes:
    top: number of genres.
    threshold: least score of a genre.
    as_json: whether the line is a JSON object with the file, and its genres and
      scores or its error.
  """

  top: int = 3
  threshold: float = 0.0
  as_json: bool = False

  def print(self, result: image_files.Result, genres: Sequence[str]) -> None:
    """Prints the line of an image; by default, errors go to stderr."""
    file = str(result.path)
    if self.as_json:
      print(json.dumps({'file': file, **self._values(result, genres)}))
    elif result.error is None:
      line = split_metrics.format_top3(
        *(file, result.scores, genres), top=self.top, threshold=self.threshold
      )
      print(line, flush=True)
    else:
      line = f'error: {text.printable(file)}: {text.printable(result.error)}'
      print(line, file=sys.stderr)

  def _values(self, result, genres):
    if result.error is not None:
      return {'error': result.error}
    scores = {
      genres[i]: round(float(result.scores[i]), 4)
      for i in metrics.top_k(result.scores[None], self.top)[0]
      if result.scores[i] >= self.threshold
    }
    return {'genres': scores}


_TOP_3 = LineFormat()


def predict(
  predictor: predictor_lib.Predictor | ensemble.Ensemble,
  paths: Sequence[str],
  *,
  output: epath.Path | None,
  batch_size: int,
  explain: bool = False,
  explain_by: str | None = None,
  line_format: LineFormat = _TOP_3,
) -> int:
  """Prints the top-3 predictions of image files.

  With `output`, predictions.csv, a contact sheet and, if there are unreadable
  files, unreadable.csv are written there; with `explain`, also the folder maps.

  Returns:
    The exit status: 0, or 1 if a file is unreadable.

  Raises:
    InputError: a folder contains no image.
    StorageError: `output` cannot be written to.
  """
  files = image_files.find(paths)
  unreadable, shown = [], []
  writer = maps = None
  with contextlib.ExitStack() as stack:
    if output is not None:
      writer = stack.enter_context(
        predictions_csv.Writer(output, calibration=predictor.calibration)
      )
    if explain:
      maps = map_images.MapWriter(
        predictor, output / map_images.FOLDER, method=explain_by
      )
    results = image_files.predict_files(predictor, files, batch_size=batch_size)
    # A bar on a terminal, if the lines are redirected.
    is_shown = sys.stderr.isatty() and not sys.stdout.isatty()
    results = tqdm.tqdm(results, 'Scoring', len(files), disable=not is_shown)
    for batch in image_files.batched(results, batch_size):
      readable = [each for each in batch if each.error is None]
      unreadable += [each for each in batch if each.error is not None]
      if writer is not None:
        num_missing = _NUM_SHOWN - len(shown)
        posters = [
          map_images.Poster(
            r.path.name, _image(r), r.pixels, r.scores, lines=r.lines or ()
          )
          for r in readable[: None if maps else num_missing]
        ]
        if maps is not None:
          maps.write(posters, first=writer.num_rows)
        writer.add([(result.path, result.scores) for result in readable])
        shown += posters[:num_missing]
      for result in batch:
        line_format.print(result, predictor.genres)
  if output is not None:
    wrote = [writer.path, *_write_unreadable(unreadable, output)]
    if shown:
      wrote.append(contact_sheet.write(output, shown, genres=predictor.genres))
    # JSON lines are alone on stdout.
    to = sys.stderr if line_format.as_json else sys.stdout
    print(*(f'Wrote {path}' for path in wrote), sep='\n', file=to)
  if unreadable:
    print(f'{len(unreadable)} file(s) could not be read.', file=sys.stderr)
  return 1 if unreadable else 0


def _image(result) -> np.ndarray:
  """The poster to show; the input of the network if the file has changed."""
  image = image_files.decode(result.path, drawing.POSTER_SHAPE)
  return image if isinstance(image, np.ndarray) else result.pixels


def _write_unreadable(results, output) -> list[epath.Path]:
  """Writes the list of unreadable files, or deletes that of an earlier run."""
  path = output / UNREADABLE_CSV
  if not results:
    path.unlink(missing_ok=True)
    return []
  table = io.StringIO()
  writer = csv.writer(table, lineterminator='\n')
  writer.writerow(['file', 'reason'])
  for result in results:
    writer.writerow(map(text.for_spreadsheet, (str(result.path), result.error)))
  files_lib.write_atomic(path, table.getvalue())
  return [path]
