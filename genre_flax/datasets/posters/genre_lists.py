"""Parses the usual notations of a list of genres."""

import ast
import re

# `Action / Adventure` and `Action/Adventure` are two genres; N/A is one.
_SEPARATORS = re.compile(r'\s*[|,;]\s*|\s+/\s+|(?<!\bN)/|/(?!A\b)', re.I)
# As numpy prints an array of strings: ['Action' 'Drama'].
_NO_COMMA = re.compile(r"""['"]\s+['"]""")


def parse_genres(text: str) -> tuple[str, ...]:
  """Parses a list of genres: a Python list, or names separated by | , ; or /.

  Args:
    text: a list such as "['Action', 'Drama']", 'Action|Drama', 'Action, Drama'
      or 'Action / Drama'.

  Returns:
    The sorted unique names; empty for an empty cell.

  Raises:
    ValueError: the text starts like a Python list but is not one.
  """
  text = text.strip()
  if text.startswith(('[', '(', '{')):
    try:
      names = ast.literal_eval(text)
    except (ValueError, SyntaxError, MemoryError, RecursionError):
      names = None
    if not isinstance(names, (list, tuple, set)) or not all(
      isinstance(name, str) for name in names
    ):
      raise ValueError(
        f"{text!r} is not a list of names; expected one such as ['Action',"
        " 'Drama'] or Action|Drama"
      )
    if _NO_COMMA.search(text):
      # Python joins adjacent strings into one.
      raise ValueError(
        f"{text!r} lacks a comma between two names; expected ['Action',"
        " 'Drama']"
      )
  else:
    names = _SEPARATORS.split(text)
  return tuple(sorted({' '.join(name.split()) for name in names} - {''}))
