r"""predictions.csv: scores and predicted genres, a row per poster.

The columns are 'poster', the genres with their scores, and 'predicted_genres':
the genres at the operating point of micro-F1, by descending score, separated by
'|' ('\|' within a name). Spreadsheets do not interpret cells as formulas (see
`text.for_spreadsheet`).
"""

from collections.abc import Iterable, Sequence
import csv
import io

from absl import logging
from etils import epath
import numpy as np

from genre_flax.evaluation import calibration as calibration_lib
from genre_flax.runtime import files
from genre_flax.runtime import text

FILE_NAME = 'predictions.csv'
_PARTIAL_NAME = 'predictions.partial.csv'
_OPERATING_POINT = 'micro_f1'
_SEPARATOR = '|'

# The name of a poster and its scores [num_genres].
Row = tuple[object, np.ndarray]


def to_csv(
  rows: Sequence[Row], *, calibration: calibration_lib.Calibration
) -> bytes:
  """A whole table in UTF-8."""
  return _header(calibration) + _format(rows, calibration)


class Writer:
  """Writes predictions.csv while posters are scored.

  Rows are appended to predictions.partial.csv, which is renamed at the end. If
  the program is interrupted, it keeps the rows so far.
  """

  def __init__(
    self, folder: epath.Path, *, calibration: calibration_lib.Calibration
  ):
    """Creates the folder and the table.

    Raises:
      StorageError: it cannot be written.
    """
    self.path = folder / FILE_NAME
    self.num_rows = 0
    self._partial = folder / _PARTIAL_NAME
    self._calibration = calibration
    with files.storage_errors(self.path):
      folder.mkdir(parents=True, exist_ok=True)
      self._file = self._partial.open('wb')
    self._append(_header(calibration))

  def __enter__(self) -> 'Writer':
    return self

  def __exit__(self, kind: type[BaseException] | None, *exc_info) -> None:
    with files.storage_errors(self.path):
      self._file.close()
      if kind is None:
        self._partial.replace(self.path)
    if kind is not None and self.num_rows:
      logging.warning(
        'Interrupted: %s has the first %d rows.', self._partial, self.num_rows
      )

  def add(self, rows: Sequence[Row]) -> None:
    """Appends rows.

    Raises:
      StorageError: they cannot be written.
    """
    self._append(_format(rows, self._calibration))
    self.num_rows += len(rows)

  def _append(self, content: bytes) -> None:
    with files.storage_errors(self.path):
      self._file.write(content)
      self._file.flush()


def _header(calibration) -> bytes:
  genres = map(text.for_spreadsheet, calibration.genres)
  return _to_lines([['poster', *genres, 'predicted_genres']])


def _format(rows: Sequence[Row], calibration) -> bytes:
  if not rows:
    return b''
  scores = np.stack([scores for _, scores in rows])
  predicted = calibration.predict_genres(scores, _OPERATING_POINT)
  order = np.argsort(-scores, axis=1, kind='stable')
  genres = [
    genre.replace(_SEPARATOR, f'\\{_SEPARATOR}') for genre in calibration.genres
  ]
  return _to_lines(
    [
      text.for_spreadsheet(str(name)),
      *(f'{score:.6f}' for score in scores[row]),
      text.for_spreadsheet(
        _SEPARATOR.join(genres[i] for i in order[row] if predicted[row, i])
      ),
    ]
    for row, (name, _) in enumerate(rows)
  )


def _to_lines(rows: Iterable[Sequence[str]]) -> bytes:
  table = io.StringIO()
  csv.writer(table, lineterminator='\n').writerows(rows)
  return table.getvalue().encode()
