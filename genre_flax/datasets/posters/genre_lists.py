"""Parses the usual notations of a list of genres."""

import ast
import functools
import html
import json
import re
import string

# `Action / Adventure` and `Action/Adventure` are two genres; N/A is one.
# Chinese lists have full-width separators.
_SEPARATORS = re.compile(
  r'\s*[|,;｜，；、]\s*|\s+[/／]\s+|(?<!\bN)[/／]|[/／](?!A\b)', re.I
)
# As numpy prints an array of strings: ['Action' 'Drama'].
_NO_COMMA = re.compile(r"""(['"])\s+(['"])""")
# Names that stand for a missing value, without case and punctuation.
_MISSING = frozenset(
  ('nan', 'none', 'na', 'null', 'nogenre', 'nogenres', 'nogenrelisted')
  + ('nogenreslisted', 'notavailable', 'notapplicable', 'unknown')
)
_PUNCTUATION = string.punctuation + '–—'


def is_missing(name: str) -> bool:
  r"""Whether a name stands for a missing value: N/A, NaN, None, null, \N."""
  key = re.sub(r'[\W_]+', '', name).casefold()
  return key in _MISSING or name.strip('[](){}\'"') == r'\N'


def key(name: str) -> str:
  """The name without case, spaces and hyphens, to find variants of it."""
  return re.sub(r'[\s-]+', '', name).casefold()


# A large table has few different lists.
@functools.lru_cache(maxsize=1 << 15)
def parse_genres(text: str, separator: str | None = None) -> tuple[str, ...]:
  """Parses a list of genres.

  Args:
    text: names separated by | , ; or /, such as 'Action|Drama', or a list in
      the notation of Python, NumPy or JSON. A JSON object in it has the genre
      as its `name`. HTML entities are unescaped.
    separator: of the names, in place of the usual ones.

  Returns:
    The sorted unique names, including those of missing values; empty for a cell
    of punctuation only.

  Raises:
    ValueError: the text starts like a list in brackets but is not one.
  """
  text = text.strip()
  if text.startswith(('[', '(', '{')):
    try:
      names = _parse_brackets(text)
    except ValueError:
      if not is_missing(text):
        raise
      names = [text]
  elif separator:
    names = html.unescape(text).split(separator)
  else:
    names = _SEPARATORS.split(html.unescape(text))
  names = (' '.join(html.unescape(name).split()) for name in names)
  return tuple(sorted({name for name in names if name.strip(_PUNCTUATION)}))


def _parse_brackets(text: str) -> list[str]:
  names = None
  # Python would join adjacent strings into one.
  with_commas = _NO_COMMA.sub(r'\1, \2', text)
  for parse, literal in (json.loads, text), (ast.literal_eval, with_commas):
    try:
      names = parse(literal)
      break
    except (ValueError, SyntaxError, MemoryError, RecursionError):
      continue
  if isinstance(names, dict):  # One genre, or genres by their ids.
    names = [names] if 'name' in names else list(names.values())
  if isinstance(names, (list, tuple, set)):
    names = [one.get('name') if isinstance(one, dict) else one for one in names]
    names = ['None' if one is None else one for one in names]
    if all(isinstance(name, str) for name in names):
      return names
  raise ValueError(
    f"{text!r} is not a list of names; expected one such as ['Action',"
    " 'Drama'] or Action|Drama"
  )
