"""A cache of the text on posters, shared by all datasets of a user."""

from collections.abc import Sequence
import json
import pathlib
import sqlite3
import threading

from absl import logging

from genre_flax.datasets.posters import poster_text
from genre_flax.runtime import checksums
from genre_flax.runtime import errors
from genre_flax.runtime import files

_GROUP = 16  # Posters that an interrupted run reads again, at most.
_TIMEOUT = 60.0  # Seconds to wait for another process that writes.
_DAMAGE = (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB)
_CREATE = (
  'CREATE TABLE IF NOT EXISTS texts (engine TEXT, image TEXT, lines TEXT,'
  ' checksum TEXT, PRIMARY KEY (engine, image)) WITHOUT ROWID'
)


class TextCache:
  """Lines of text by engine and SHA-256 of a JPEG, in a file of SQLite.

  Safe to use from threads, and by several processes at once. A damaged entry is
  treated as missing, and a damaged file is created again.
  """

  def __init__(self, path: pathlib.Path | None = None):
    """Opens the cache.

    Args:
      path: of its file, which is created if necessary; by default in the user's
        cache folder.

    Raises:
      StorageError: it cannot be opened.
    """
    self._path = path or files.cache_dir() / 'text' / 'texts_v1.sqlite'
    self._lock = threading.RLock()
    self._unwritten: dict[tuple[str, str], str] = {}
    with files.storage_errors(self._path):
      self._path.parent.mkdir(parents=True, exist_ok=True)
    self._connection = None
    self._execute()

  def get(self, engine: str, image: str) -> tuple[poster_text.Line, ...] | None:
    """The lines on a poster; None if they are not stored.

    Args:
      engine: name of the engine.
      image: SHA-256 of the JPEG.

    Raises:
      StorageError: the cache cannot be read.
    """
    with self._lock:
      stored = self._unwritten.get((engine, image))
      if stored is None:
        query = 'SELECT lines, checksum FROM texts WHERE engine=? AND image=?'
        for lines, checksum in self._execute(query, [(engine, image)]):
          if checksum == checksums.of_json([engine, image, lines]):
            stored = lines
    if stored is None:
      return None
    return tuple(
      poster_text.Line(text, confidence, tuple(box))
      for text, confidence, box in json.loads(stored)
    )

  def put(
    self, engine: str, image: str, lines: Sequence[poster_text.Line]
  ) -> None:
    """Stores the lines on a poster; a few are written together.

    Raises:
      StorageError: the cache cannot be written.
    """
    with self._lock:
      self._unwritten[engine, image] = json.dumps(lines)
      if len(self._unwritten) >= _GROUP:
        self.flush()

  def flush(self) -> None:
    """Writes the pending entries.

    Raises:
      StorageError: the cache cannot be written.
    """
    with self._lock:
      rows = [
        (*key, lines, checksums.of_json([*key, lines]))
        for key, lines in self._unwritten.items()
      ]
      if rows:
        self._execute('INSERT OR REPLACE INTO texts VALUES (?, ?, ?, ?)', rows)
      self._unwritten.clear()

  def close(self) -> None:
    """Closes the file."""
    with self._lock:
      self._connection.close()

  def _execute(self, statement: str = _CREATE, rows=((),)) -> list[tuple]:
    """Executes a statement for some rows in one transaction."""
    for is_last in (False, True):
      try:
        if self._connection is None:
          self._connection = sqlite3.connect(
            self._path, timeout=_TIMEOUT, check_same_thread=False
          )
          self._connection.execute(_CREATE)
        with self._connection as connection:
          return [
            result
            for row in rows
            for result in connection.execute(statement, row)
          ]
      except sqlite3.DatabaseError as e:
        if e.sqlite_errorcode & 0xFF not in _DAMAGE or is_last:
          raise errors.StorageError(
            f'The cache {self._path} cannot be used: {e}. Free disk space,'
            ' check the folder and its permissions, or set XDG_CACHE_HOME to'
            ' another folder; then run the same command again.'
          ) from e
        logging.warning('%s is damaged (%s); it is emptied.', self._path, e)
        self._connection.close()
        self._connection = None
        for suffix in ('', '-journal'):
          pathlib.Path(f'{self._path}{suffix}').unlink(missing_ok=True)
    raise AssertionError('unreachable')
