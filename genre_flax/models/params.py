"""Trees of parameters as flat dicts by path, and their trained part."""

import re
from typing import Any

import flax.traverse_util

from genre_flax.runtime import errors

HEAD = 'head'
TEXT = 'text'  # The text branch.

flatten = flax.traverse_util.flatten_dict
unflatten = flax.traverse_util.unflatten_dict


def split(params: Any, pattern: str) -> tuple[dict, dict]:
  """Splits parameters into trained and frozen ones.

  Args:
    params: a tree.
    pattern: a regular expression that matches the whole path of every trained
      parameter, such as 'head/kernel'.

  Returns:
    Two flat dicts by path, for `merge`.
  """
  trained, frozen = {}, {}
  for path, value in flatten(params, sep='/').items():
    (trained if re.fullmatch(pattern, path) else frozen)[path] = value
  return trained, frozen


def merge(trained: dict, frozen: dict) -> Any:
  """The inverse of `split`."""
  return unflatten({**trained, **frozen}, sep='/')


def check_pattern(params: Any, pattern: str) -> None:
  """Raises InputError if a pattern is invalid or matches no parameter."""
  try:
    trained, _ = split(params, pattern)
  except re.error as e:
    raise errors.InputError(
      f'config.trainable={pattern!r} is not a regular expression: {e}'
    ) from None
  if not trained:
    names = list(flatten(params, sep='/'))
    raise errors.InputError(
      f'config.trainable={pattern!r} matches no parameter; the parameters are'
      f' {", ".join(names[:4])}, ... {names[-1]}'
    )


def check_head_bias(params: Any, *, model_name: str) -> None:
  """Raises InputError if the head has no bias to set to the label prior."""
  if 'bias' not in params[HEAD]:
    raise errors.InputError(
      f'config.head_bias_from_prior=True needs a bias in the layer {HEAD!r},'
      f' which config.model.name={model_name!r} lacks; set it to False.'
    )


def is_head(path: str) -> bool:
  """Whether a path is above the embedding: head, head_norm, text, fusion."""
  name = path.split('/')[0]
  above = (TEXT, 'fusion_scales', 'fusion_bias')
  return name.split('_')[0] == HEAD or name in above
