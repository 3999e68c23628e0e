"""Text that came from users, made fit to be shown.

The names of files and genres may hold anything: line feeds, the escape
sequences that a terminal obeys, the formulas that a spreadsheet runs.
"""

import re

# What a spreadsheet takes for a formula, unless it is a plain number.
_FORMULA = re.compile(r'[=+\-@\t\r]')
_NUMBER = re.compile(r'[+-]?\d+(\.\d+)?')


def printable(text: str, *, keep: str = '') -> str:
  r"""The text with \n, \x1b, ... in place of what is no visible character.

  Bytes of a file name that are no UTF-8 become \xff.

  Args:
    text: of any characters.
    keep: characters that stay as they are, such as line feeds.
  """
  return ''.join(
    c if c.isprintable() or c in keep else _escape(c) for c in text
  )


def _escape(character: str) -> str:
  code = ord(character)
  if 0xDC80 <= code <= 0xDCFF:  # How Python keeps a byte that is no UTF-8.
    return f'\\x{code - 0xDC00:02x}'
  return character.encode('unicode_escape').decode()


def for_spreadsheet(text: str) -> str:
  """A cell of a CSV file that no spreadsheet takes for a formula.

  One that begins as a formula does gets an apostrophe in front (OWASP, CSV
  injection), unless it is a number; what is not visible is escaped.
  """
  text = printable(text)
  if _FORMULA.match(text) and not _NUMBER.fullmatch(text):
    return f"'{text}"
  return text


def for_markdown(text: str) -> str:
  """A text in a line or a cell of Markdown: neither markup nor HTML."""
  return re.sub(r'([|<>`*_\[\]\\])', r'\\\1', printable(text))
