"""Our networks compute what timm's do, with timm's weights and with ours."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from configs import default
from genre_flax.models import registry
from genre_flax.pretrained import published
from genre_flax.pretrained import timm_weights
from genre_flax.runtime import errors
from tests.support import helpers

torch = pytest.importorskip('torch', reason="needs: pip install -e '.[parity]'")
safetensors = pytest.importorskip(
  'safetensors.torch', reason="needs: pip install -e '.[pretrained]'"
)
timm = pytest.importorskip('timm', reason="needs: pip install -e '.[parity]'")

# Of each network of timm's: what ours is called, its options, and an image
# size, (height, width), that is small and not square.
CASES = {
  'vit_tiny_patch16_224': ('vit', {'size': 'Ti'}, (64, 48)),
  'vit_small_patch16_224': ('vit', {'size': 'S'}, (48, 32)),
  'vit_base_patch32_clip_224': (
    'vit',
    {'size': 'B', 'patch': 32, 'pre_norm': True, 'norm_epsilon': 1e-5},
    (96, 64),
  ),
  'vit_base_patch32_clip_quickgelu_224': (
    'vit',
    {
      'size': 'B',
      'patch': 32,
      'pre_norm': True,
      'norm_epsilon': 1e-5,
      'gelu': 'quick',
    },
    (96, 64),
  ),
  'vit_base_patch16_siglip_224': (
    'vit',
    {'size': 'B', 'pool': 'attention'},
    (48, 32),
  ),
  'vit_small_patch14_dinov2': (
    'vit',
    {'size': 'S', 'patch': 14, 'layer_scale': 1e-5},
    (56, 42),
  ),
  'vit_small_patch14_reg4_dinov2': (
    'vit',
    {'size': 'S', 'patch': 14, 'layer_scale': 1e-5, 'num_registers': 4},
    (56, 42),
  ),
  'deit3_small_patch16_224': (
    'vit',
    {'size': 'S', 'layer_scale': 1e-6},
    (48, 32),
  ),
  'tf_efficientnet_lite0': ('efficientnet_lite', {}, (64, 96)),
  'tf_efficientnet_lite2': ('efficientnet_lite', {'variant': 2}, (48, 64)),
  'convnext_atto': ('convnext', {'size': 'atto'}, (64, 96)),
  'convnext_tiny': ('convnext', {'size': 'tiny'}, (64, 32)),
  'convnextv2_atto': ('convnext', {'size': 'atto', 'version': 2}, (64, 96)),
}
NUM_CLASSES = 7


def make_theirs(name, image_shape):
  """timm's network with random weights that all matter, and its arrays."""
  torch.manual_seed(0)
  network = timm.create_model(
    name, num_classes=NUM_CLASSES, **sized(name, image_shape)
  )
  network = network.eval()
  with torch.no_grad():
    for buffer in network.buffers():  # The statistics of BatchNorm.
      if buffer.is_floating_point():
        buffer.copy_(0.7 + 0.6 * torch.rand_like(buffer))
    for key, parameter in network.named_parameters():
      if parameter.ndim < 2 or 'gamma' in key or 'grn' in key:
        # Scales near 1, biases near 0; no layer scale of 1e-6.
        near = 0.0 if key.endswith('bias') else 1.0
        parameter.copy_(near + 0.2 * torch.randn_like(parameter))
      elif any(part in key for part in ('pos_embed', 'token', 'latent')):
        parameter.copy_(torch.randn_like(parameter))
  return network, to_arrays(network)


def sized(name, image_shape):
  """What makes a network of timm's for images of a size, where it matters."""
  is_vit = name.startswith(('vit', 'deit'))
  return {'img_size': image_shape} if is_vit else {}


def to_arrays(network):
  return {
    key: value.numpy()
    for key, value in network.state_dict().items()
    if not key.endswith('num_batches_tracked')
  }


def make_ours(name, options):
  config = default.get_config().model
  config.name = name
  config[name].update(options)
  model = registry.create_from_config(config, num_genres=NUM_CLASSES)
  return model, config[name].to_dict()


def compare(model, variables, theirs, image_shape, *, atol=1e-4):
  """Features and logits agree on random images."""
  images = np.random.default_rng(0).normal(size=(2, *image_shape, 3))
  images = images.astype(np.float32)

  @jax.jit
  def ours(variables, images):
    features = model.apply(variables, images, train=False, method='embed')
    return features, model.apply(variables, images, train=False)

  features, logits = ours(variables, jnp.asarray(images))
  with torch.no_grad():
    tensors = torch.from_numpy(images.transpose(0, 3, 1, 2).copy())
    their_features = theirs.forward_head(
      theirs.forward_features(tensors), pre_logits=True
    ).numpy()
    their_logits = theirs(tensors).numpy()
  assert np.std(their_logits) > 0.01  # Not all the same.
  scale = max(1.0, np.abs(their_features).max())
  np.testing.assert_allclose(features, their_features, atol=atol * scale)
  np.testing.assert_allclose(logits, their_logits, atol=atol * scale)


def variables_of(taken):
  return {'params': taken.params, 'batch_stats': taken.batch_stats}


@pytest.mark.parametrize('name', CASES)
def test_features_are_those_of_timm(name, tmp_path):
  network, options, image_shape = CASES[name]
  if network == 'vit':  # Published positions are of a square grid.
    image_shape = (image_shape[0], image_shape[0])
  theirs, arrays = make_theirs(name, image_shape)
  model, options = make_ours(network, options)
  path = tmp_path / 'model.safetensors'
  safetensors.save_file(theirs.state_dict(), path)
  taken = timm_weights.to_variables(
    published.read(str(path)).arrays,
    network=network,
    options=options,
    image_shape=image_shape,
    origin=name,
  )
  assert taken.num_taken == len(arrays)
  assert taken.resampled == []
  compare(model, variables_of(taken), theirs, image_shape)


@pytest.mark.parametrize(
  'name',
  [
    'vit_tiny_patch16_224',
    'vit_small_patch14_dinov2',
    'deit3_small_patch16_224',
    'vit_small_patch14_reg4_dinov2',
  ],
)
def test_positions_are_resampled_as_timm_does(name):
  network, options, image_shape = CASES[name]
  model, options = make_ours(network, options)
  side = 6 * options['patch']
  _, arrays = make_theirs(name, (side, side))
  theirs = timm.create_model(
    name, num_classes=NUM_CLASSES, img_size=image_shape
  ).eval()
  theirs.load_state_dict(
    timm.models.vision_transformer.checkpoint_filter_fn(
      {key: torch.from_numpy(value) for key, value in arrays.items()}, theirs
    )
  )
  taken = timm_weights.to_variables(
    arrays,
    network=network,
    options=options,
    image_shape=image_shape,
    origin=name,
  )
  rows, columns = (side // options['patch'] for side in image_shape)
  words = f'positions of 6 x 6 patches to {rows} x {columns}'
  assert taken.resampled == [words]
  compare(model, variables_of(taken), theirs, image_shape)


@pytest.mark.parametrize(
  ('name', 'places_tokens', 'changes'),
  [
    ('tf_efficientnet_lite0', True, {'feature_norm': True}),
    ('vit_tiny_patch16_224', True, {}),
    ('deit3_small_patch16_224', False, {}),
    ('vit_small_patch14_reg4_dinov2', False, {}),
    ('vit_base_patch16_siglip_224', True, {}),
    ('vit_base_patch32_clip_224', True, {}),
    ('convnext_atto', True, {}),
    ('convnextv2_atto', True, {}),
  ],
)
def test_timm_computes_what_ours_does(name, places_tokens, changes):
  network, options, image_shape = CASES[name]
  model, options = make_ours(network, options | changes)
  variables = helpers.random_variables(model, image_shape, spread=0.05)
  theirs = timm.create_model(
    name, num_classes=NUM_CLASSES, **sized(name, image_shape)
  ).eval()
  arrays = timm_weights.from_variables(
    variables,
    network=network,
    options=options,
    places_tokens=places_tokens,
  )
  theirs.load_state_dict(
    {key: torch.from_numpy(value.copy()) for key, value in arrays.items()}
  )
  compare(model, variables, theirs, image_shape)


def test_there_and_back_is_the_same():
  _, arrays = make_theirs('vit_tiny_patch16_224', (64, 64))
  _, options = make_ours('vit', {'size': 'Ti'})
  taken = timm_weights.to_variables(
    arrays,
    network='vit',
    options=options,
    image_shape=(64, 64),
    origin='timm',
  )
  assert taken.num_taken == len(arrays)
  assert taken.resampled == taken.lacking == []
  back = timm_weights.from_variables(
    variables_of(taken), network='vit', options=options
  )
  assert back.keys() == arrays.keys()
  for name in arrays.keys() - {'cls_token', 'pos_embed'}:
    np.testing.assert_array_equal(back[name], arrays[name])
  for of in (back, arrays):
    of['cls_token'] = of['cls_token'] + of['pos_embed'][:, :1]
  np.testing.assert_allclose(back['cls_token'], arrays['cls_token'], atol=1e-6)


@pytest.mark.parametrize(
  ('options', 'words'),
  [
    ({'size': 'Ti', 'pre_norm': True}, r'2 \(norm_pre.weight, .*\) missing'),
    ({'size': 'Ti', 'pool': 'attention'}, 'no square of patches'),
    ({'size': 'Ti', 'layer_scale': 1e-5}, r'24 \(blocks.0.ls1.gamma'),
    ({'size': 'Ti', 'num_registers': 4}, 'no reg_token'),
  ],
)
def test_weights_of_another_network_are_refused(options, words):
  _, arrays = make_theirs('vit_tiny_patch16_224', (64, 64))
  _, options = make_ours('vit', options)
  with pytest.raises(errors.InputError, match=words):
    timm_weights.to_variables(
      arrays,
      network='vit',
      options=options,
      image_shape=(64, 64),
      origin='a file',
    )
