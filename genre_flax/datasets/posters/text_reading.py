"""Reads the text on many posters in parallel processes, resumably."""

import collections
from collections.abc import Iterator, Sequence
from concurrent import futures
from concurrent.futures import process
import contextlib
import dataclasses
import hashlib
import itertools
import multiprocessing
from typing import Any

from absl import logging

from genre_flax.datasets.posters import collection as collection_lib
from genre_flax.datasets.posters import poster_text
from genre_flax.datasets.posters import text_cache
from genre_flax.datasets.posters import text_card
from genre_flax.datasets.posters import text_worker
from genre_flax.runtime import errors
from genre_flax.runtime import machine
from genre_flax.runtime import text as text_lib

_PENDING_PER_PROCESS = 4
_Lines = tuple[poster_text.Line, ...]


class TextReader:
  """Reads and caches the text on posters.

  Attributes:
    name: of the engine.
    failed: ids of the posters on which the engine failed, so far.
  """

  def __init__(self, text_reader: str = ''):
    """Loads the engine once, to find errors before any image is read.

    Args:
      text_reader: as in `poster_text.load_engine`.

    Raises:
      InputError: the engine cannot be loaded.
      StorageError: the cache cannot be opened.
    """
    self.name = poster_text.load_engine(text_reader).name
    self.failed: set[str] = set()
    self._text_reader = text_reader
    self._cache = text_cache.TextCache()

  def __enter__(self) -> 'TextReader':
    return self

  def __exit__(self, *exception: Any) -> None:
    self._cache.close()

  def log_plan(self, examples: Sequence[collection_lib.Example]) -> None:
    """Logs how many posters would be read, and how many are cached."""
    keys = [_key(example.read()) for example in examples]
    num_cached = sum(
      self._cache.get(self.name, key) is not None for key in keys
    )
    logging.info(
      'The text on %d posters would be read; that on %d others is cached.',
      len(keys) - num_cached,
      num_cached,
    )

  def lines(self, poster_id: str, content: bytes) -> _Lines:
    """The text on a poster that `read_all` has read.

    Args:
      poster_id: its id.
      content: the bytes of its JPEG.

    Raises:
      StorageError: the cache does not contain it any more.
    """
    if poster_id in self.failed:
      return ()
    found = self._cache.get(self.name, _key(content))
    if found is None:
      raise errors.StorageError(
        f'The text on the poster {poster_id!r} is no longer in the cache. Run'
        ' the same command again, and keep the cache while it runs.'
      )
    return found

  def read_all(
    self, examples: Sequence[collection_lib.Example]
  ) -> Iterator[_Lines]:
    """Yields the text on each poster, in order.

    Posters on which the engine fails have no text, and are logged at the end.

    Args:
      examples: the posters.

    Raises:
      InputError: the engine fails on all posters, or an image does not decode.
      ResourceError: a process of the pool ended.
      StorageError: the cache cannot be used.
    """
    first_reason = ''
    with contextlib.closing(self._read_in_pool(examples)) as found:
      for example, (lines, reason) in zip(examples, found, strict=True):
        if lines is None:
          self.failed.add(example.id)
          first_reason = first_reason or f'{example.id!r}: {reason}'
        yield lines or ()
    if self.failed:
      names = text_lib.join_first(sorted(self.failed), limit=20)
      message = (
        f'The text reader failed on {len(self.failed)} of {len(examples)}'
        f' posters, which have no text: {names}. The first error, on'
        f' {first_reason}'
      )
      if len(self.failed) == len(examples):
        raise errors.InputError(message)
      logging.warning('%s', message)

  def add_to(
    self,
    collection: collection_lib.Collection,
    *,
    card: dict[str, Any],
    progress: collection_lib.Progress = collection_lib.no_progress,
  ) -> tuple[collection_lib.Collection, dict[str, Any]]:
    """Reads the text on all posters of a collection.

    Args:
      collection: posters without text.
      card: their data card.
      progress: shows the progress over the posters.

    Returns:
      The collection and the card of the posters with their text. Both need
      this reader to be open.

    Raises:
      InputError: an extra column has the name of the text.
      UserError: as `read_all`.
    """
    if any(column['name'] == 'text' for column in card['extra_columns']):
      raise errors.InputError(
        'The dataset has an extra column `text`, which is also the name of the'
        ' text on the posters; rename the column.'
      )
    examples = collection.examples
    with contextlib.closing(self.read_all(examples)) as texts:
      described = text_card.describe(
        examples,
        progress(texts, len(examples), 'Reading text'),
        genres=collection.genres,
      )
    return dataclasses.replace(collection, text_of=self.lines), {
      **text_card.with_engine(card, self.name),
      'text': {
        'engine': self.name,
        **described,
        'failed': sorted(self.failed),
      },
    }

  def _read_in_pool(self, examples) -> Iterator[tuple[_Lines | None, str]]:
    """Yields lines, or None and the reason why the engine failed."""
    num_processes = min(machine.num_cores(), max(len(examples), 1))
    # Processes start when the first poster is submitted.
    pool = futures.ProcessPoolExecutor(
      num_processes,
      multiprocessing.get_context('spawn'),
      initializer=text_worker.initialize,
    )
    pending = collections.deque()
    waiting = iter(examples)
    try:
      while True:
        limit = num_processes * _PENDING_PER_PROCESS - len(pending)
        for example in itertools.islice(waiting, limit):
          pending.append((example, *self._submit(pool, example)))
        if not pending:
          break
        example, key, result = pending.popleft()
        if isinstance(result, futures.Future):
          result = result.result()
          if result[0] is not None:
            self._cache.put(self.name, key, result[0])
        yield result
    except (process.BrokenProcessPool, MemoryError) as e:
      raise errors.ResourceError(
        'A process ended or had not enough memory while it read the text on'
        f' the poster {example.id!r} or one near it. Run the same command'
        ' again; it resumes.'
      ) from e
    finally:
      pool.shutdown(cancel_futures=True)
      self._cache.flush()

  def _submit(self, pool, example):
    """The key of a poster, and its cached or future result."""
    content = example.read()
    key = _key(content)
    cached = self._cache.get(self.name, key)
    if cached is not None:
      return key, (cached, '')
    arguments = (self._text_reader, example.id, content)
    return key, pool.submit(text_worker.read, *arguments)


def _key(content: bytes) -> str:
  return hashlib.sha256(content).hexdigest()
