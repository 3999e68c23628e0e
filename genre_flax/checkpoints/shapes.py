"""Checks the shapes of saved arrays before the arrays are read.

Damage may ask for any amount of memory, and so may a stranger.
"""

import math
from typing import Any

from etils import epath
import jax
import orbax.checkpoint as ocp
import psutil

from genre_flax.runtime import errors
from genre_flax.runtime import text

# Arrays that are larger than the memory that is free were never trained here.
_SHARE_OF_FREE = 0.9

# Of each array, by its path in the tree.
Shapes = dict[str, tuple[int, ...]]


def of(tree: Any) -> Shapes:
  """The shapes of arrays, or of what stands for them."""
  return {
    jax.tree_util.keystr(path): tuple(leaf.shape)
    for path, leaf in jax.tree_util.tree_leaves_with_path(tree)
  }


def require(found: Shapes, expected: Shapes) -> None:
  """Raises ValueError where an array is missing or has another shape."""
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
  """Checks what Orbax says of the arrays of an item.

  Args:
    folder: of the item, an absolute path.
    template: a tree of the shapes to expect; None for any.

  Raises:
    ValueError: they have other shapes, or would not fit into memory.
    ResourceError: they have the shapes to expect, and do not fit into memory.
    Exception: of any kind, where the files are damaged.
  """
  found = of(ocp.StandardCheckpointHandler().metadata(folder).tree)
  if template is not None:
    require(found, of(template))
  size = sum(4 * math.prod(shape) for shape in found.values())
  free = psutil.virtual_memory().available
  if size > _SHARE_OF_FREE * free:
    words = (
      f'its arrays would take {size / 1e9:,.1f} GB;'
      f' {free / 1e9:.1f} GB of memory are free'
    )
    # What has the expected shapes is not damaged.
    raise ValueError(words) if template is None else errors.ResourceError(words)
