"""Assignment of posters to splits; adding posters moves none of the others."""

from collections.abc import Mapping, Sequence
import hashlib

from genre_flax.datasets.posters import rows as rows_lib
from genre_flax.runtime import errors

# Shares in percent.
DEFAULT_SHARES = {'train': 80, 'validation': 10, 'test': 10}


def parse_shares(text: str) -> dict[str, int]:
  """Parses shares such as '80,10,10' for train, validation and test.

  Raises:
    InputError: the text is not three whole percentages that sum up to 100.
  """
  try:
    shares = [int(part) for part in text.split(',')]
  except ValueError:
    shares = []
  if len(shares) != 3 or min(shares) < 0 or sum(shares) != 100:
    raise errors.InputError(
      f'--splits={text}: expected three whole percentages for'
      f' {", ".join(rows_lib.SPLITS)} that sum up to 100, such as 80,10,10'
    )
  return dict(zip(rows_lib.SPLITS, shares, strict=True))


def fraction(name: str) -> float:
  """A number in [0, 1), by the SHA-256 of a name."""
  digest = hashlib.sha256(name.encode()).digest()
  # 53 bits, so that the quotient is exact.
  return (int.from_bytes(digest[:8], 'big') >> 11) / (1 << 53)


def by_hash(name: str, shares: Mapping[str, int]) -> str:
  """The split of a name, by its SHA-256 alone.

  Args:
    name: id of a film.
    shares: percent of each split; they sum up to 100.
  """
  percent = 100 * fraction(name)
  end = 0
  for split, share in shares.items():
    end += share
    if percent < end:
      return split
  raise AssertionError(f'the shares {shares} do not sum up to 100')


def assign(
  rows: Sequence[rows_lib.Annotation],
  content_hashes: Sequence[str],
  *,
  shares: Mapping[str, int],
) -> list[str]:
  """Assigns a split to each row.

  The split column of a row wins and holds for all posters of its film.
  Otherwise a row gets the split of an earlier row of its film, or of an earlier
  row whose image has the same bytes. The first such row gets its split by the
  hash of its id. All posters of a film are in one split, and posters appended
  later do not move earlier ones.

  Args:
    rows: rows of the CSV files, in order; the splits of a film's rows agree.
    content_hashes: hashes of the rows' image files.
    shares: percent of each split; they sum up to 100.
  """
  split_of_film: dict[str, str] = {}
  split_of_content: dict[str, str] = {}
  for row, content in zip(rows, content_hashes, strict=True):
    if row.split is not None:
      split_of_film.setdefault(row.id, row.split)
      split_of_content.setdefault(content, row.split)
  splits = []
  for row, content in zip(rows, content_hashes, strict=True):
    split = (
      split_of_film.get(row.id)
      or split_of_content.get(content)
      or by_hash(row.id, shares)
    )
    split_of_film[row.id] = split
    split_of_content.setdefault(content, split)
    splits.append(split)
  return splits
