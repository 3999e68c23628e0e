r"""decisions.csv: a row for each poster, with the genres that it is given.

A column for each of `calibration.DECISIONS`: which genres are best depends on
what one asks for. Those of a cell have '|' between them, the likeliest first;
one that is part of a name is written as '\|'. Cells are safe to open in a
spreadsheet (see `text.for_spreadsheet`).
"""

from collections.abc import Iterable
import itertools

from etils import epath
import numpy as np

from genre_flax.evaluation import calibration as calibration_lib
from genre_flax.inference import predictions
from genre_flax.runtime import files
from genre_flax.runtime import text

FILE_NAME = 'decisions.csv'
SEPARATOR = '|'
# Rows to decide on at once.
_BLOCK = 1024


def write(
  path: epath.Path,
  rows: Iterable[predictions.Row],
  *,
  calibration: calibration_lib.Calibration,
) -> None:
  """Writes a whole table.

  Args:
    path: of the file.
    rows: of each poster its name, and its scores [num_genres].
    calibration: that the scores are of.

  Raises:
    StorageError: it cannot be written.
  """
  rows = iter(rows)
  with files.replace_file(path) as beside, beside.open('wb') as file:
    file.write(
      predictions.cells_to_csv([['poster', *calibration_lib.DECISIONS]])
    )
    while block := list(itertools.islice(rows, _BLOCK)):
      file.write(predictions.cells_to_csv(_decide(block, calibration)))


def _decide(rows, calibration):
  scores = np.stack([scores for _, scores in rows])
  decided = [
    calibration.decide(scores, point) for point in calibration_lib.DECISIONS
  ]
  genres = [
    genre.replace(SEPARATOR, f'\\{SEPARATOR}') for genre in calibration.genres
  ]
  order = np.argsort(-scores, axis=1, kind='stable')
  for (name, _), by_score, *given in zip(rows, order, *decided, strict=True):
    cells = (
      SEPARATOR.join(genres[i] for i in by_score if is_given[i])
      for is_given in given
    )
    yield [predictions.name_of(name), *map(text.for_spreadsheet, cells)]
