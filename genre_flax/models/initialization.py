"""Initial parameters: of other networks, and of the label prior."""

from collections.abc import Mapping
from typing import Any

from absl import logging
import numpy as np

from genre_flax.models import params as params_lib
from genre_flax.models import text_branch
from genre_flax.runtime import errors
from genre_flax.runtime import text


def merge_pretrained(
  variables: Mapping[str, Any],
  pretrained: Mapping[str, Any],
  *,
  origin: str,
  with_head: bool,
) -> dict[str, Any]:
  """Replaces variables by those of a pretrained network.

  Raises:
    InputError: a variable is missing or left over, has another shape, or is not
      finite.
  """
  merged = {}
  for kind in ('params', 'batch_stats'):
    own, other = (
      {
        path: value
        for path, value in params_lib.flatten(tree[kind], sep='/').items()
        if with_head or not params_lib.is_head(path)
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
      missing, extra, mismatched = (
        text.join_first(names) or 'none'
        for names in (missing, extra, mismatched)
      )
      raise errors.InputError(
        f'{origin} does not fit the network ({kind}):'
        f'\n  missing: {missing}\n  extra: {extra}'
        f'\n  of another shape: {mismatched}'
        '\nIs it the same model, with the same options?'
      )
    replaced = {path: np.asarray(other[path]) for path in own}
    broken = [p for p, each in replaced.items() if not np.isfinite(each).all()]
    if broken:
      raise errors.InputError(
        f'{origin} has NaN or infinity in {text.join_first(broken)}; expected'
        ' finite weights.'
      )
    merged[kind] = params_lib.unflatten(
      params_lib.flatten(variables[kind], sep='/') | replaced, sep='/'
    )
    if own:
      logging.info('Took %d arrays of %s from %s.', len(own), kind, origin)
  return merged


def with_prior_bias(
  variables: Mapping[str, Any], label_prior: np.ndarray
) -> dict[str, Any]:
  """Sets the bias of the head, and of the text branch, to the label prior.

  Lin et al., 2017, section 3.3.

  The variables are {'params', 'batch_stats'}, with 'head/bias' [num_genres].
  """
  bias = prior_logits(label_prior)
  params, statistics = dict(variables['params']), dict(variables['batch_stats'])
  for layer in (params_lib.HEAD, params_lib.TEXT):
    if layer in params:
      params[layer] = {**params[layer], 'bias': bias}
  if text_branch.SCALES in statistics:
    statistics |= text_branch.make_fusion(prior_logits=bias)
  return {'params': params, 'batch_stats': statistics}


def prior_logits(label_prior: np.ndarray) -> np.ndarray:
  """The logits, float32, of shares clipped to [1e-4, 1 - 1e-4]."""
  prior = np.clip(label_prior, 1e-4, 1 - 1e-4)
  return np.log(prior / (1 - prior)).astype(np.float32)
