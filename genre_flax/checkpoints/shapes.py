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


class OtherNetworkError(errors.InputError):
  """An undamaged checkpoint has other arrays than the network."""


def require(tree: Any, template: Any, *, origin: epath.PathLike) -> None:
  """Raises OtherNetworkError if an array is missing or has another shape."""
  found, expected = of(tree), of(template)
  wrong = [
    f'{path} is {found.get(path, "missing")}, expected'
    f' {expected.get(path, "nothing")}'
    for path in sorted(found.keys() | expected.keys())
    if found.get(path) != expected.get(path)
  ]
  if wrong:
    listed = text.join_first(wrong, separator='; ')
    raise OtherNetworkError(
      f'{origin} is undamaged, but holds another network: {listed}. Use the'
      ' config and the custom code of its training; copies of the latter are in'
      ' the folder code of the workdir.'
    )


def check(folder: epath.Path, template: Any | None = None) -> bool:
  """Checks the size of an item's arrays, by Orbax's metadata.

  Args:
    folder: Absolute path of the item.
    template: Tree of the expected shapes; None for any.

  Returns:
    Whether the shapes are those of the template.

  Raises:
    ValueError: Arrays of another size than expected exceed the free memory.
    ResourceError: The expected arrays exceed the free memory.
    Exception: Any exception, if the files are damaged.
  """
  found, expected = (
    of(ocp.StandardCheckpointHandler().metadata(folder).tree),
    of(template),
  )
  size, expected_size = (
    sum(4 * math.prod(shape) for shape in each.values())
    for each in (found, expected)
  )
  free = psutil.virtual_memory().available
  if size > _SHARE_OF_FREE * free:
    message = (
      f'its arrays take {size / 1e9:,.1f} GB; {free / 1e9:.1f} GB of memory are'
      ' free'
    )
    # Arrays of the expected size are not damaged.
    if size != expected_size:
      raise ValueError(message)
    raise errors.ResourceError(message)
  return found == expected
