"""Extra columns of label tables: further inputs of a network, by name."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
import dataclasses
import functools
import math
from typing import Any

from etils import epy
import numpy as np

from genre_flax.runtime import errors

with epy.lazy_imports():
  import pandas as pd

# Fields of examples and records, and parameters of networks and `apply`.
RESERVED = (
  *('id', 'image', 'images', 'features', 'embeddings', 'genres', 'labels'),
  *('mask', 'index', 'checksum', 'key', 'file', 'self', 'train', 'model'),
  *('variables', 'preprocessing', 'method', 'rngs', 'mutable', 'extra'),
)
_TEXT_INPUTS = ('text_ids', 'text_weights')  # Of `text_features`.


@dataclasses.dataclass(frozen=True)
class ExtraColumn:
  """A column of numbers, float32, or of categories, int32.

  Attributes:
    name: of the column, of its entry in a batch, and of the parameter of a
      network that takes it.
    categories: of the training split, sorted; the value of the first is 1, and
      0 is that of all others. None for numbers.
    default: value where there is none: 0, or the mean of the training split.
  """

  name: str
  categories: tuple[str, ...] | None
  default: float

  @property
  def dtype(self) -> np.dtype:
    """Of the values."""
    return np.dtype(np.float32 if self.categories is None else np.int32)

  @property
  def shape(self) -> tuple[int, ...]:
    """Of the value of one poster."""
    return ()

  @functools.cached_property
  def _indices(self):
    return {name: i for i, name in enumerate(self.categories, start=1)}

  def encode(self, text: str) -> np.ndarray:
    """The value of a cell, a scalar; `text` is a number or a category."""
    value = self.default
    if text:
      value = (
        float(text) if self.categories is None else self._indices.get(text, 0)
      )
    return np.asarray(value, self.dtype)

  def with_default(self, text: str) -> ExtraColumn:
    """The column with another default, a number or a category.

    Raises:
      InputError: the text is neither.
    """
    if self.categories is None:
      is_valid, expected = is_number(text), 'a number'
    else:
      is_valid = text in self.categories
      expected = f'one of {", ".join(self.categories[:20])}'
    if not is_valid:
      raise errors.InputError(
        f'The extra column {self.name!r} is {text!r}; expected {expected}.'
      )
    return dataclasses.replace(self, default=float(self.encode(text)))


def check_names(names: Sequence[str]) -> None:
  """Raises InputError for names that no parameter of a network can have."""
  for name in names:
    is_taken = name in (*RESERVED, *_TEXT_INPUTS) or names.count(name) > 1
    if not name.isidentifier() or is_taken:
      raise errors.InputError(
        f'--extra_columns={",".join(names)}: {name!r} cannot be a parameter of'
        ' a network. Expected different names of letters, digits and'
        f' underscores, other than {", ".join(RESERVED)}; rename the'
        ' column.'
      )


def is_number(text: str) -> bool:
  """Whether a cell is a finite number in the range of float32."""
  try:
    return abs(float(text)) <= np.finfo(np.float32).max
  except ValueError:
    return False


def describe(name: str, frame: pd.DataFrame) -> dict[str, Any]:
  """The entry of a column in the data card.

  Args:
    name: of the column.
    frame: a row per poster, with the columns 'id', 'split' and 'text', the
      cell.

  Returns:
    The attributes of an `ExtraColumn`, the ids of the posters without a value
    ('missing'), and of those with a category that is not in the training split
    ('unknown').

  Raises:
    InputError: all cells are empty.
  """
  given = frame[frame.text != '']
  if given.empty:
    raise errors.InputError(
      f'All cells of the extra column {name!r} are empty.'
    )
  train = given.text[given.split == 'train']
  categories, unknown, default = None, given[:0], 0.0
  if given.text.map(is_number).all():
    default = float(train.astype(float).mean()) if len(train) else 0.0
  else:
    categories = sorted(set(train))
    unknown = given[~given.text.isin(categories)]
  return {
    'name': name,
    'categories': categories,
    'default': default,
    'missing': frame.id[frame.text == ''].tolist(),
    'unknown': unknown.id.tolist(),
  }


def parse(entries: Sequence[Mapping[str, Any]]) -> tuple[ExtraColumn, ...]:
  """The columns of a data card or of a checkpoint.

  Raises:
    Exception: an entry is invalid.
  """
  columns = []
  for entry in entries:
    name, categories = entry['name'], entry['categories']
    default = float(entry['default'])
    if categories is not None:
      categories = tuple(map(str, categories))
    check_names([name])
    if not math.isfinite(default) or (categories is not None and default):
      raise ValueError(
        f'{default} is not a valid default for the extra column {name!r}'
      )
    columns.append(ExtraColumn(name, categories, default))
  return tuple(columns)
