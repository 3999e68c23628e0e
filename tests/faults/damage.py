"""Ways to damage a file."""

from collections.abc import Iterator
import pathlib
import random


def ways(
  path: pathlib.Path, *, num_flips: int, older: pathlib.Path | None = None
) -> Iterator[tuple[str, bytes | None]]:
  """Yields what can be done to a file, and what it then holds.

  Args:
    path: of the file.
    num_flips: places at which a bit is flipped, spread over the file.
    older: of an earlier version of the file, to put in its place.

  Yields:
    The damage in a word, and the content; None where the file is gone.
  """
  content = path.read_bytes()
  rng = random.Random(path.name)
  for number in range(min(num_flips, len(content))):
    start = number * len(content) // num_flips
    end = max(start + 1, (number + 1) * len(content) // num_flips)
    damaged = bytearray(content)
    damaged[rng.randrange(start, end)] ^= 1 << rng.randrange(8)
    yield 'flipped', bytes(damaged)
  if content:
    yield 'cut', content[: len(content) // 2]
  if content and num_flips > 1:
    yield 'emptied', b''
    yield 'zeroed', bytes(len(content))
  yield 'deleted', None
  if older is not None and older.exists() and older.read_bytes() != content:
    yield 'replaced by an older one', older.read_bytes()
