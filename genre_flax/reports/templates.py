"""Fills templates of HTML; whatever is filled in is escaped."""

import math
import pathlib

import jinja2

from genre_flax.runtime import text


def environment(folder: pathlib.Path) -> jinja2.Environment:
  """Templates of a folder, with the filters that all pages have.

  Args:
    folder: of the templates.

  Returns:
    An environment that escapes, and that refuses names it does not know.
  """
  made = jinja2.Environment(
    loader=jinja2.FileSystemLoader(folder),
    autoescape=True,
    undefined=jinja2.StrictUndefined,
    trim_blocks=True,
    lstrip_blocks=True,
  )
  made.filters |= {
    # Names may hold what is no visible character.
    'shown': text.printable,
    'number': number,
    'percent': percent,
  }
  return made


def number(value: float | None, digits: int = 3) -> str:
  """A number, or a dash where there is none."""
  return f'{value:.{digits}f}' if _is_defined(value) else '–'


def percent(value: float | None) -> str:
  """A share in percent, or a dash where there is none."""
  return f'{100 * value:.0f} %' if _is_defined(value) else '–'


def _is_defined(value):
  return value is not None and math.isfinite(value)
