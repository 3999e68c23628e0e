"""A network as timm loads it: its arrays by timm's names, and what it builds.

`timm.create_model('local-dir:FOLDER', pretrained=True)` reads both.
"""

import dataclasses
import pathlib
from typing import Any

from etils import epath
import jax
import numpy as np

from genre_flax.evaluation import calibration as calibration_lib
from genre_flax.models import convnext
from genre_flax.models import published
from genre_flax.models import timm_weights
from genre_flax.models import vit
from genre_flax.results import predict
from genre_flax.results.export import graph
from genre_flax.runtime import errors

FILE_NAME = 'model.safetensors'
_VIT_SIZES = {'Ti': 'tiny', 'S': 'small', 'B': 'base', 'L': 'large'}
_POOLS = {'token': 'token', 'mean': 'avg', 'attention': 'map'}
_GELUS = {'exact': 'gelu', 'tanh': 'gelu_tanh', 'quick': 'quick_gelu'}
# What LayerNorms add is no argument of timm's networks, but of some.
_VIT_OF_EPSILON = {
  1e-6: 'vit_{size}_patch16_224',
  1e-5: 'vit_base_patch16_clip_224',
}


def describe(predictor: predict.Predictor) -> dict[str, Any]:
  """What timm reads in config.json: the network, its arguments, its pixels.

  Args:
    predictor: as it was restored.

  Raises:
    InputError: timm has no such network.
  """
  config = predictor.config
  name, height, width = config.model.name, *predictor.image_shape
  if name not in timm_weights.NETWORKS:
    raise errors.InputError(
      f'timm has no network {name!r}; it has'
      f' {", ".join(map(repr, timm_weights.NETWORKS))}. Export this one with'
      ' --format=onnx or --format=stablehlo.'
    )
  architecture, arguments = _ARCHITECTURES[name](
    config.model[name], (height, width)
  )
  return {
    'architecture': architecture,
    'num_classes': len(predictor.genres),
    'model_args': arguments,
    'pretrained_cfg': {
      'input_size': [3, height, width],
      'fixed_input_size': name == 'vit',
      'interpolation': 'bilinear',
      'crop_pct': 1.0,
      'crop_mode': 'squash',
      'mean': [config.pixel_mean / 255] * 3,
      'std': [config.pixel_scale / 255] * 3,
      'num_classes': len(predictor.genres),
      'label_names': list(predictor.genres),
    },
  }


def _vit(options, image_shape):
  size = vit.SIZES[options.size]
  epsilon = options.norm_epsilon
  if epsilon not in _VIT_OF_EPSILON:
    raise errors.InputError(
      f'timm has no ViT with config.model.vit.norm_epsilon={epsilon}; it has'
      f' {" and ".join(map(str, _VIT_OF_EPSILON))}. Export with --format=onnx.'
    )
  architecture = _VIT_OF_EPSILON[epsilon].format(size=_VIT_SIZES[options.size])
  return architecture, {
    'img_size': list(image_shape),
    'patch_size': options.patch,
    'embed_dim': size.width,
    'depth': size.depth,
    'num_heads': size.num_heads,
    'global_pool': _POOLS[options.pool],
    'class_token': options.pool == 'token',
    'fc_norm': False,
    'reg_tokens': options.num_registers,
    'no_embed_class': True,
    'pre_norm': options.pre_norm,
    'init_values': options.layer_scale or None,
    'act_layer': _GELUS[options.gelu],
  }


def _convnext(options, image_shape):
  del image_shape  # Any.
  size = convnext.SIZES[options.size]
  version = {1: '', 2: 'v2'}[options.version]
  return f'convnext{version}_{options.size}', {
    'depths': list(size.depths),
    'dims': list(size.widths),
  }


def _efficientnet_lite(options, image_shape):
  del image_shape  # Any.
  return f'tf_efficientnet_lite{options.variant}', {}


_ARCHITECTURES = {
  'convnext': _convnext,
  'efficientnet_lite': _efficientnet_lite,
  'vit': _vit,
}


def make_arrays(predictor: predict.Predictor) -> dict[str, np.ndarray]:
  """The variables that evaluate, by timm's names.

  The calibration is taken up by the head, exactly: the sigmoid of timm's logits
  are the calibrated scores of one look.

  Args:
    predictor: of a network that `describe` takes.

  Returns:
    float32 arrays.
  """
  variables = jax.device_get(predictor.variables)
  params, calibration = dict(variables['params']), predictor.calibration
  head = params['head']
  params['head'] = {
    'kernel': np.asarray(head['kernel'], float) * calibration.slope,
    'bias': head['bias'] * calibration.slope + calibration.intercept,
  }
  model = predictor.config.model
  return timm_weights.from_variables(
    {**variables, 'params': params},
    network=model.name,
    options=model[model.name].to_dict(),
    places_tokens=False,
  )


def read_back(
  folder: pathlib.Path, predictor: predict.Predictor
) -> graph.Function:
  """What our network computes with the arrays of the file.

  Args:
    folder: with what `make_arrays` made, written.
    predictor: that it is of.

  Returns:
    See `graph.make_function`.
  """
  config = predictor.in_float32().config.copy_and_resolve_references()
  options = config.model[config.model.name]
  options.feature_norm = False  # The head has it.
  taken = timm_weights.to_variables(
    published.read_arrays(epath.Path(folder / FILE_NAME)),
    network=config.model.name,
    options=options.to_dict(),
    image_shape=predictor.image_shape,
    origin=FILE_NAME,
  )
  variables = {'params': taken.params, 'batch_stats': taken.batch_stats}
  changed = dataclasses.replace(
    predictor,
    config=config,
    variables=variables,
    calibration=calibration_lib.identity(predictor.genres),
  )
  return jax.jit(graph.make_function(changed))
