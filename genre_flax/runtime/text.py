"""Escaping of text from users, such as names of files and genres, for display.

Such text may hold line feeds, escape sequences of terminals and formulas of
spreadsheets.
"""

from collections.abc import Sequence
import re

# The start of a formula in a spreadsheet, unless the cell is a plain number.
_FORMULA = re.compile(r'[=+\-@\t\r]')
_NUMBER = re.compile(r'[+-]?\d+(\.\d+)?')


def printable(text: str, *, keep: str = '') -> str:
  r"""Escapes invisible characters as \n, \x1b, ..., except for those in `keep`.

  Bytes of a file name that are not UTF-8 become \xff.
  """
  return ''.join(
    c if c.isprintable() or c in keep else _escape(c) for c in text
  )


def _escape(character: str) -> str:
  code = ord(character)
  if 0xDC80 <= code <= 0xDCFF:  # Python's surrogate of a byte, not UTF-8.
    return f'\\x{code - 0xDC00:02x}'
  return character.encode('unicode_escape').decode()


def for_spreadsheet(text: str) -> str:
  """Escapes a cell of a CSV file so that no spreadsheet runs it as a formula.

  A cell that starts like a formula gets an apostrophe in front (OWASP, CSV
  injection), unless it is a number. Invisible characters are escaped.
  """
  text = printable(text)
  if _FORMULA.match(text) and not _NUMBER.fullmatch(text):
    return f"'{text}"
  return text


def for_markdown(text: str) -> str:
  """Escapes markup and HTML in a line or a cell of Markdown."""
  return re.sub(r'([|<>`*_\[\]\\])', r'\\\1', printable(text))


def join_first(
  items: Sequence[str], *, limit: int = 5, separator: str = ', '
) -> str:
  """Joins the first items and the number of the others: 'a, b and 3 more'."""
  others = len(items) - limit
  return separator.join(items[:limit]) + (
    f' and {others} more' if others > 0 else ''
  )
