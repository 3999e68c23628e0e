"""Reads the text on posters in a process of its own."""

import multiprocessing
import os
import signal
import threading

from genre_flax.datasets.posters import images
from genre_flax.datasets.posters import poster_text
from genre_flax.runtime import errors

_Lines = tuple[poster_text.Line, ...]


def initialize() -> None:
  """Leaves Ctrl-C to the parent process, and exits when it exits."""
  signal.signal(signal.SIGINT, signal.SIG_IGN)

  def exit_with_parent():
    multiprocessing.parent_process().join()
    os._exit(1)

  threading.Thread(target=exit_with_parent, daemon=True).start()


def read(
  text_reader: str, poster_id: str, content: bytes
) -> tuple[_Lines | None, str]:
  """Reads the text on a poster with the engine of this process.

  Args:
    text_reader: as in `poster_text.load_engine`.
    poster_id: for error messages.
    content: the bytes of the JPEG.

  Returns:
    The lines and '', or None and the reason why the engine failed.

  Raises:
    InputError: the engine cannot be loaded, or the image does not decode.
    MemoryError: there is not enough memory.
  """
  with poster_text.borrow_engine(text_reader) as engine:
    return _read(engine, poster_id, content)


def _read(engine, poster_id, content):
  try:
    return poster_text.read(content, engine), ''
  except MemoryError:
    raise
  except images.BadImageError as e:  # It cannot be pickled.
    raise errors.InputError(
      f'The poster {poster_id!r} does not decode: {e}.'
    ) from None
  except (Exception, SystemExit) as e:  # Of the engine, of any type.
    return None, f'{type(e).__name__}: {e}'[:300]
