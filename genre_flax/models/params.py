"""Paths of parameters: selection, transfer from other networks, and depth."""

from collections.abc import Iterable, Mapping, Sequence
import re
from typing import Any

from absl import logging
import flax.traverse_util
import numpy as np

from genre_flax.runtime import errors
from genre_flax.runtime import text

HEAD = 'head'

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


def merge_pretrained(
  variables: Mapping[str, Any],
  pretrained: Mapping[str, Any],
  *,
  origin: str,
  with_head: bool,
) -> dict[str, Any]:
  """Replaces variables by those of a pretrained network.

  Args:
    variables: {'params', 'batch_stats'} of the network to be trained.
    pretrained: the same of the pretrained network.
    origin: of the pretrained network, for messages.
    with_head: whether to replace the head too.

  Returns:
    {'params', 'batch_stats'}.

  Raises:
    InputError: a variable is missing or left over, or has another shape.
  """
  merged = {}
  for kind in ('params', 'batch_stats'):
    own, other = (
      {
        path: value
        for path, value in flatten(tree[kind], sep='/').items()
        if with_head or not is_head(path)
      }
      for tree in (variables, pretrained)
    )
    missing = sorted(own.keys() - other.keys())
    extra = sorted(other.keys() - own.keys())
    mismatched = [
      f'{path} is {np.shape(other[path])}, expected {np.shape(own[path])}'
      for path in sorted(own.keys() & other.keys())
      if np.shape(other[path]) != np.shape(own[path])
    ]
    if missing or extra or mismatched:
      raise errors.InputError(
        f'{origin} does not fit the network ({kind}):'
        f'\n  missing: {_list(missing)}\n  extra: {_list(extra)}'
        f'\n  of another shape: {_list(mismatched)}'
        '\nIs it the same model, with the same options?'
      )
    replaced = {path: np.asarray(other[path]) for path in own}
    merged[kind] = unflatten(
      flatten(variables[kind], sep='/') | replaced, sep='/'
    )
    if own:
      logging.info('Took %d arrays of %s from %s.', len(own), kind, origin)
  return merged


def is_head(path: str) -> bool:
  """Whether a path belongs to a layer after the embedding: head, head_norm."""
  return path.split('/')[0].split('_')[0] == HEAD


def layers_below_head(
  paths: Iterable[str], layer_order: Sequence[str]
) -> dict[str, int]:
  r"""The number of layers between each parameter and the logits.

  Args:
    paths: flat, such as 'backbone/block_03/mlp/expand/kernel'.
    layer_order: regular expressions of the starts of paths, from the images to
      the logits. Paths that match one with the same numbers in its groups form
      a layer: r'backbone/block_(\d+)' makes each block a layer.

  Returns:
    By path; 0 in the last layer, 1 in the layer before it.

  Raises:
    InputError: a path matches no expression.
  """
  layers = {path: _layer(path, layer_order) for path in paths}
  ranks = {
    layer: rank for rank, layer in enumerate(sorted(set(layers.values())))
  }
  return {path: len(ranks) - 1 - ranks[layers[path]] for path in layers}


def _layer(path, layer_order):
  for number, pattern in enumerate(layer_order):
    if match := re.match(pattern, path):
      return number, *(int(group or -1) for group in match.groups())
  raise errors.InputError(
    f'The parameter {path} matches no expression of layer_order'
    f' {tuple(layer_order)}.'
  )


def with_prior_bias(params: Any, label_prior: np.ndarray) -> Any:
  """Sets the head's bias to the logits of the label prior.

  Lin et al., 2017, section 3.3. The prior is clipped to [1e-4, 1 - 1e-4].

  Args:
    params: with 'head/bias', [num_genres].
    label_prior: [num_genres], shares of the training split.

  Returns:
    A tree like `params`.
  """
  prior = np.clip(label_prior, 1e-4, 1 - 1e-4)
  bias = np.log(prior / (1 - prior)).astype(np.float32)
  return {**params, HEAD: {**params[HEAD], 'bias': bias}}


def _list(names: list[str]) -> str:
  return text.join_first(names) or 'none'
