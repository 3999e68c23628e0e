"""Safetensors files with timm's names and random weights."""

import json

from configs import default
from genre_flax import config as config_lib
from genre_flax.models import registry
from genre_flax.pretrained import loader
from genre_flax.pretrained import timm_weights
from tests.support import helpers

MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
OPTIONS = {'vit': {'patch': 8}, 'convnext': {}}


def make_network(name, image_shape):
  """`config.model`, the network, and random parameters that all matter."""
  config = default.get_config().model
  config.name = name
  config[name].update(OPTIONS[name])
  model = registry.create_from_config(config, num_genres=5)
  variables = helpers.random_variables(model, image_shape, spread=0.1)
  return config, model, variables['params']


def write(folder, config, params, *, with_config=True, drop=(), **replaced):
  """Writes model.safetensors and config.json; returns the path."""
  arrays = timm_weights.from_variables(
    {'params': params},
    network=config.name,
    options=config[config.name].to_dict(),
  )
  arrays = {k: v for k, v in arrays.items() if k not in drop} | replaced
  from safetensors import numpy as safetensors  # In the extra `pretrained`.

  folder.mkdir(exist_ok=True)
  safetensors.save_file(arrays, folder / 'model.safetensors')
  if with_config:
    described = {'pretrained_cfg': {'mean': MEAN, 'std': STD}}
    (folder / 'config.json').write_text(json.dumps(described))
  return str(folder / 'model.safetensors')


def load(source, config, image_shape=(32, 32)):
  """The parameters that a network with other pixels gets."""
  preprocessing = config_lib.Preprocessing(
    *image_shape, pixel_mean=127.5, pixel_scale=60.0
  )
  loaded = loader.load(
    source, network=config.name, model=config, preprocessing=preprocessing
  )
  return loaded['params']
