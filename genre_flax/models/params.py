"""Which parameters are trained, and where parameters come from."""

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
  """Splits parameters into those that are trained and the others.

  Args:
    params: a tree.
    pattern: a regular expression that the whole path, such as 'head/kernel', of
      a trained parameter matches.

  Returns:
    Two flat dicts with paths such as 'head/kernel', for `merge`.
  """
  trained, fixed = {}, {}
  for path, value in flatten(params, sep='/').items():
    (trained if re.fullmatch(pattern, path) else fixed)[path] = value
  return trained, fixed


def merge(trained: dict, fixed: dict) -> Any:
  """The tree that `split` took apart."""
  return unflatten({**trained, **fixed}, sep='/')


def check_pattern(params: Any, pattern: str) -> None:
  """Raises InputError where a pattern fits no parameter, or is none."""
  try:
    trained, _ = split(params, pattern)
  except re.error as e:
    raise errors.InputError(
      f'config.trainable={pattern!r} is not a regular expression: {e}'
    ) from None
  if not trained:
    names = list(flatten(params, sep='/'))
    raise errors.InputError(
      f'config.trainable={pattern!r} matches no parameter; they are'
      f' {", ".join(names[:4])}, ... {names[-1]}'
    )


def check_head_bias(params: Any, *, model_name: str) -> None:
  """Raises InputError where the head has no bias to set to the label prior."""
  if 'bias' not in params[HEAD]:
    raise errors.InputError(
      f'config.head_bias_from_prior=True needs a bias in the layer {HEAD!r},'
      f' which config.model.name={model_name!r} lacks; set it to False.'
    )


def graft(
  variables: Mapping[str, Any],
  source: Mapping[str, Any],
  *,
  origin: str,
  with_head: bool,
) -> dict[str, Any]:
  """Takes parameters and statistics over from another network.

  Args:
    variables: {'params', 'batch_stats'} of the network to be trained.
    source: the same of the other.
    origin: of the other, for messages.
    with_head: whether to take over the head too.

  Returns:
    {'params', 'batch_stats'} with the source's values.

  Raises:
    InputError: a parameter is missing, is left over, or has another shape.
  """
  grafted = {}
  for kind in ('params', 'batch_stats'):
    own = flatten(variables[kind], sep='/')
    other = {
      path: value
      for path, value in flatten(source[kind], sep='/').items()
      if with_head or not is_head(path)
    }
    wanted = {path for path in own if with_head or not is_head(path)}
    missing = sorted(wanted - other.keys())
    extra = sorted(other.keys() - wanted)
    mismatched = [
      f'{path} is {np.shape(other[path])}, expected {np.shape(own[path])}'
      for path in sorted(wanted & other.keys())
      if np.shape(other[path]) != np.shape(own[path])
    ]
    if missing or extra or mismatched:
      raise errors.InputError(
        f'{origin} does not fit the network ({kind}):'
        f'\n  missing: {_list(missing)}\n  extra: {_list(extra)}'
        f'\n  of another shape: {_list(mismatched)}'
        '\nIs it the same model, with the same options?'
      )
    own.update({path: np.asarray(other[path]) for path in wanted})
    grafted[kind] = unflatten(own, sep='/')
    if wanted:
      logging.info('Took %d arrays of %s from %s.', len(wanted), kind, origin)
  return grafted


def is_head(path: str) -> bool:
  """Whether a path is of what comes after the features: head, head_norm."""
  return path.split('/')[0].split('_')[0] == HEAD


def layers_below_head(
  paths: Iterable[str], layer_order: Sequence[str]
) -> dict[str, int]:
  r"""How many layers are between each parameter and the logits.

  Args:
    paths: flat, such as 'backbone/block_03/mlp/expand/kernel'.
    layer_order: regular expressions of the starts of paths, from the images to
      the logits. What matches one with the same numbers in its groups is one
      layer: r'backbone/block_(\d+)' makes a layer of each block.

  Returns:
    0 for the parameters of the last layer, 1 for those of the one before it.

  Raises:
    InputError: a path matches none.
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
    f'The network has a parameter {path}, which matches none of its layer_order'
    f' {tuple(layer_order)}.'
  )


def with_prior_bias(params: Any, label_prior: np.ndarray) -> Any:
  """Sets the head's bias so that scores start at the label prior.

  Lin et al., 2017, section 3.3. A genre that does not occur starts as if it
  occurred once in ten thousand.

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
