"""Networks agree with timm's, with weights converted in both directions."""

from etils import epath
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from configs import default
from genre_flax.models import registry
from genre_flax.pretrained import timm_weights
from genre_flax.pretrained import weight_files
from tests.support import helpers

torch = pytest.importorskip('torch', reason="needs: pip install -e '.[parity]'")
safetensors = pytest.importorskip(
  'safetensors.torch', reason="needs: pip install -e '.[pretrained]'"
)
timm = pytest.importorskip('timm', reason="needs: pip install -e '.[parity]'")

_CLIP = {'size': 'B', 'patch': 32, 'pre_norm': True, 'norm_epsilon': 1e-5}
_DINOV2 = {'size': 'S', 'patch': 14, 'layer_scale': 1e-5}
# By timm's name: `config.model.name`, its options, and (height, width).
CASES = {
  'vit_tiny_patch16_224': ('vit', {'size': 'Ti'}, (64, 48)),
  'vit_small_patch16_224': ('vit', {'size': 'S'}, (48, 32)),
  'vit_base_patch32_clip_224': ('vit', _CLIP, (96, 64)),
  'vit_base_patch32_clip_quickgelu_224': (
    'vit',
    {**_CLIP, 'gelu': 'quick'},
    (96, 64),
  ),
  'vit_base_patch16_siglip_224': (
    'vit',
    {'size': 'B', 'pool': 'attention'},
    (48, 32),
  ),
  'vit_small_patch14_dinov2': ('vit', _DINOV2, (56, 42)),
  'vit_small_patch14_reg4_dinov2': (
    'vit',
    {**_DINOV2, 'num_registers': 4},
    (56, 42),
  ),
  'deit3_small_patch16_224': (
    'vit',
    {'size': 'S', 'layer_scale': 1e-6},
    (48, 32),
  ),
  'tf_efficientnet_lite0': ('efficientnet_lite', {}, (75, 50)),
  'tf_efficientnet_lite2': ('efficientnet_lite', {'variant': 2}, (48, 64)),
  'convnext_atto': ('convnext', {'size': 'atto'}, (64, 96)),
  'convnext_tiny': ('convnext', {'size': 'tiny'}, (64, 32)),
  'convnextv2_atto': ('convnext', {'size': 'atto', 'version': 2}, (64, 96)),
}
NUM_CLASSES = 7


def make_timm_network(name, image_shape):
  """A network with random weights that all matter, and its arrays."""
  torch.manual_seed(0)
  network = create(name, image_shape)
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
  arrays = {
    key: value.numpy()
    for key, value in network.state_dict().items()
    if not key.endswith('num_batches_tracked')
  }
  return network, arrays


def create(name, image_shape, **options):
  if name.startswith(('vit', 'deit')):
    options['img_size'] = image_shape
  return timm.create_model(name, num_classes=NUM_CLASSES, **options).eval()


def make_network(name, options):
  config = default.get_config().model
  config.name = name
  config[name].update(options)
  model = registry.create_from_config(config, num_genres=NUM_CLASSES)
  return model, config[name].to_dict()


def compare(model, variables, timm_network, image_shape, *, atol=1e-4):
  """Compares embeddings and logits of random images."""
  images = np.random.default_rng(0).normal(size=(2, *image_shape, 3))
  images = images.astype(np.float32)

  @jax.jit
  def apply(variables, images):
    embedding = model.apply(variables, images, train=False, method='embed')
    return embedding, model.apply(variables, images, train=False)

  embedding, logits = apply(variables, jnp.asarray(images))
  with torch.no_grad():
    tensors = torch.from_numpy(images.transpose(0, 3, 1, 2).copy())
    expected_embedding = timm_network.forward_head(
      timm_network.forward_features(tensors), pre_logits=True
    ).numpy()
    expected_logits = timm_network(tensors).numpy()
  assert np.std(expected_logits) > 0.01
  scale = max(1.0, np.abs(expected_embedding).max())
  np.testing.assert_allclose(embedding, expected_embedding, atol=atol * scale)
  np.testing.assert_allclose(logits, expected_logits, atol=atol * scale)


def convert(arrays, network, options, image_shape):
  result = timm_weights.to_variables(
    arrays,
    network=network,
    options=options,
    image_shape=image_shape,
    origin='timm',
  )
  variables = {'params': result.params, 'batch_stats': result.batch_stats}
  return variables, result


@pytest.mark.parametrize('name', CASES)
def test_networks_with_timms_weights_agree_with_timm(name, tmp_path):
  network, options, image_shape = CASES[name]
  if network == 'vit':  # Published positions are of a square grid.
    image_shape = (image_shape[0], image_shape[0])
  timm_network, arrays = make_timm_network(name, image_shape)
  model, options = make_network(network, options)
  path = epath.Path(tmp_path / 'model.safetensors')
  safetensors.save_file(timm_network.state_dict(), path)
  variables, result = convert(
    weight_files.read_safetensors(path), network, options, image_shape
  )
  assert result.num_converted == len(arrays)
  assert result.resampled == []
  # CLIP has no bias here.
  bias = ['backbone/embed/dense/bias']
  assert result.missing == (bias if options.get('pre_norm') else [])
  compare(model, variables, timm_network, image_shape)


@pytest.mark.parametrize(
  'name',
  [
    'vit_tiny_patch16_224',
    'vit_small_patch14_dinov2',
    'deit3_small_patch16_224',
    'vit_small_patch14_reg4_dinov2',
  ],
)
def test_positions_are_resampled_as_in_timm(name):
  network, options, image_shape = CASES[name]
  model, options = make_network(network, options)
  side = 6 * options['patch']
  _, arrays = make_timm_network(name, (side, side))
  timm_network = create(name, image_shape)
  timm_network.load_state_dict(
    timm.models.vision_transformer.checkpoint_filter_fn(
      {key: torch.from_numpy(value) for key, value in arrays.items()},
      timm_network,
    )
  )
  variables, result = convert(arrays, network, options, image_shape)
  rows, columns = (side // options['patch'] for side in image_shape)
  change = f'positions of 6 x 6 patches to {rows} x {columns}'
  assert result.resampled == [change]
  compare(model, variables, timm_network, image_shape)


@pytest.mark.parametrize(
  ('name', 'changes'),
  [
    ('tf_efficientnet_lite0', {'feature_norm': True}),
    ('vit_tiny_patch16_224', {}),
    ('deit3_small_patch16_224', {}),
    ('vit_small_patch14_reg4_dinov2', {}),
    ('vit_base_patch16_siglip_224', {}),
    ('vit_base_patch32_clip_224', {}),
    ('convnext_atto', {}),
    ('convnextv2_atto', {}),
  ],
)
def test_timm_networks_with_converted_variables_agree(name, changes):
  network, options, image_shape = CASES[name]
  model, options = make_network(network, options | changes)
  variables = helpers.random_variables(model, image_shape, spread=0.05)
  timm_options = {'no_embed_class': True} if network == 'vit' else {}
  timm_network = create(name, image_shape, **timm_options)
  arrays = timm_weights.from_variables(
    variables, network=network, options=options
  )
  timm_network.load_state_dict(
    {key: torch.from_numpy(value.copy()) for key, value in arrays.items()}
  )
  compare(model, variables, timm_network, image_shape)
