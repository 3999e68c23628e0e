"""predictions.csv: a row for each poster, with the score of every genre.

Cells are safe to open in a spreadsheet (see `text.for_spreadsheet`). A table of
many files is written in groups as they are scored, under another name until it
is complete; one that was stopped goes on where it was.
"""

from collections.abc import Iterable, Iterator, Sequence
import csv
import io
import json

from absl import logging
from etils import epath
import numpy as np
import xxhash

from genre_flax.runtime import errors
from genre_flax.runtime import files
from genre_flax.runtime import text

FILE_NAME = 'predictions.csv'
_GROWING = 'predictions.partial.csv'
# How far that one is known to be whole, beside it.
_STATE = 'predictions.partial.json'
# Rows whose scores are kept in memory.
NUM_FIRST = 60

Row = tuple[str, np.ndarray]


def name_of(name: object) -> str:
  """The name of a poster, as it stands in its row."""
  return text.for_spreadsheet(str(name))


def write(
  path: epath.Path, rows: Iterable[Row], *, genres: Sequence[str]
) -> None:
  """Writes a whole table.

  Args:
    path: of the file.
    rows: of each poster its name, and its scores [num_genres].
    genres: the label names.

  Raises:
    StorageError: it cannot be written.
  """
  with files.replace_file(path) as beside, beside.open('wb') as file:
    file.write(cells_to_csv([_header(genres)]))
    for row in rows:
      file.write(_format([row]))


def to_csv(rows: Sequence[Row], *, genres: Sequence[str]) -> bytes:
  """A whole table's bytes, as `write` writes them."""
  return cells_to_csv([_header(genres)]) + _format(rows)


class Growing:
  """A table that grows group by group, and can be gone on with."""

  def __init__(
    self,
    folder: epath.Path,
    *,
    genres: Sequence[str],
    checkpoint: str,
    resume: bool,
  ):
    """Opens the table of a folder, or begins it.

    Args:
      folder: of the file; made where it does not exist.
      genres: the label names.
      checkpoint: tells the network from all others.
      resume: whether to go on with one that was stopped.

    Raises:
      InputError: the one that was stopped is of another checkpoint.
      DamageError: it is not what was written.
      StorageError: the folder cannot be written to.
    """
    self._folder = folder
    self._genres = tuple(genres)
    self._checkpoint = checkpoint
    self._digest = xxhash.xxh3_128()
    self._num_bytes = 0
    self.names: list[str] = []
    # The scores of the first rows, for pictures of them.
    self.first: list[Row] = []
    with files.storage_errors(folder):
      folder.mkdir(parents=True, exist_ok=True)
    if resume and self._state_path.exists():
      self._go_on()
    else:
      self._begin()

  @property
  def path(self) -> epath.Path:
    """Where the rows are until `finish`."""
    return self._folder / _GROWING

  @property
  def _state_path(self) -> epath.Path:
    return self._folder / _STATE

  def _begin(self) -> None:
    if self._state_path.exists():
      logging.warning(
        'Beginning anew; %s had rows of a run that was stopped, which --resume'
        ' would have gone on with.',
        self.path,
      )
    with files.storage_errors(self.path):
      self._state_path.unlink(missing_ok=True)
      self.path.unlink(missing_ok=True)
    self._append(cells_to_csv([_header(self._genres)]))

  def _go_on(self) -> None:
    state = self._read_state()
    if state['checkpoint'] != self._checkpoint:
      raise errors.InputError(
        f'{self.path} has rows of another checkpoint. Leave out --resume to'
        ' begin anew, or choose another --output.'
      )
    try:
      content = self.path.read_bytes()[: state['bytes']]
    except OSError:
      content = b''
    self._digest.update(content)
    self._num_bytes = len(content)
    if self._digest.hexdigest() != state['digest']:
      raise errors.DamageError(
        f'{self.path} is not what was written. Leave out --resume to begin'
        ' anew.'
      )
    # What was written after the last group may be cut off in a row.
    with files.storage_errors(self.path):
      files.write_atomic(self.path, content)
    for name, scores in self.read():
      self._add(name, scores)
    logging.info('Going on after %d rows of %s.', len(self.names), self.path)

  def _read_state(self) -> dict:
    try:
      state = json.loads(self._state_path.read_bytes())
      state['bytes'] = int(state['bytes'])
      state['checkpoint'], state['digest']
    except Exception as e:  # The bytes decide what is raised.
      raise errors.DamageError(
        f'{self._state_path} is damaged: {e!r}. Leave out --resume to begin'
        ' anew.'
      ) from e
    return state

  def add(self, rows: Sequence[Row]) -> None:
    """Adds a group of rows; from now on they are there, whatever happens.

    Raises:
      StorageError: they cannot be written.
    """
    self._append(_format(rows))
    for name, scores in rows:
      self._add(name_of(name), scores)

  def _add(self, name: str, scores: np.ndarray) -> None:
    self.names.append(name)
    if len(self.first) < NUM_FIRST:
      self.first.append((name, scores))

  def _append(self, content: bytes) -> None:
    self._digest.update(content)
    self._num_bytes += len(content)
    with files.storage_errors(self.path), open(self.path, 'ab') as file:
      file.write(content)
    state = {
      'checkpoint': self._checkpoint,
      'bytes': self._num_bytes,
      'digest': self._digest.hexdigest(),
    }
    files.write_atomic(self._state_path, json.dumps(state))

  def read(self) -> Iterator[Row]:
    """Yields the rows so far, in which names are as `name_of` gives them."""
    with open(self.path, encoding='utf-8', newline='') as file:
      table = csv.reader(file)
      next(table)
      for name, *scores in table:
        yield name, np.array(scores, float)

  def finish(self) -> epath.Path:
    """Gives the complete table its name, and returns its path."""
    final = self._folder / FILE_NAME
    with files.storage_errors(final):
      self.path.replace(final)
      self._state_path.unlink()
    return final


def _header(genres: Sequence[str]) -> list[str]:
  return ['poster', *map(text.for_spreadsheet, genres)]


def _format(rows: Sequence[Row]) -> bytes:
  return cells_to_csv(
    [[name_of(name), *(f'{s:.6f}' for s in scores)] for name, scores in rows]
  )


def cells_to_csv(rows: Iterable[Sequence[str]]) -> bytes:
  """The lines of a table, of its rows' cells, in UTF-8."""
  table = io.StringIO()
  csv.writer(table, lineterminator='\n').writerows(rows)
  return table.getvalue().encode()
