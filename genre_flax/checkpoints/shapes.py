"""Checks of array shapes before arrays are read into memory.

Damaged or hostile files may declare arrays of any size.
"""

import math
from typing import Any

from etils import epath
import jax
import orbax.checkpoint as ocp
import psutil

from genre_flax.runtime import checksums
from genre_flax.runtime import errors
from genre_flax.runtime import text

# Arrays above this share of the free memory are refused.
_SHARE_OF_FREE = 0.9

# Shapes by the path of an array in its tree.
Shapes = dict[str, tuple[int, ...]]


def of(tree: Any) -> Shapes:
  """The shapes of a tree of arrays or of their metadata."""
  return {
    jax.tree_util.keystr(path): tuple(leaf.shape)
    for path, leaf in jax.tree_util.tree_leaves_with_path(tree)
  }


def checksum(tree: Any) -> str:
  """A checksum of the paths and shapes of arrays."""
  return checksums.of_json(of(tree))


def require(found: Shapes, expected: Shapes) -> None:
  """Raises ValueError if an array is missing or has another shape."""
  wrong = [
    f'{path} is {found.get(path, "missing")}, expected'
    f' {expected.get(path, "nothing")}'
    for path in sorted(found.keys() | expected.keys())
    if found.get(path) != expected.get(path)
  ]
  if wrong:
    listed = text.join_first(wrong, separator='; ')
    raise ValueError(f'it holds another network: {listed}')


def check(folder: epath.Path, template: Any | None = None) -> None:
  """Checks the shapes in Orbax's metadata of an item.

  Args:
    folder: Absolute path of the item.
    template: Tree of the expected shapes; None for any.

  Raises:
    ValueError: The shapes differ, or unknown arrays exceed the free memory.
    ResourceError: The expected arrays exceed the free memory.
    Exception: Any exception, if the files are damaged.
  """
  found = of(ocp.StandardCheckpointHandler().metadata(folder).tree)
  if template is not None:
    require(found, of(template))
  size = sum(4 * math.prod(shape) for shape in found.values())
  free = psutil.virtual_memory().available
  if size > _SHARE_OF_FREE * free:
    message = (
      f'its arrays take {size / 1e9:,.1f} GB; {free / 1e9:.1f} GB of memory are'
      ' free'
    )
    # Arrays of the expected shapes are not damaged.
    if template is None:
      raise ValueError(message)
    raise errors.ResourceError(message)
