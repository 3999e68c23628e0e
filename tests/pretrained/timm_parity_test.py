"""Networks agree with timm's, with weights converted in both directions."""

from etils import epath
import jax
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

from tests.support import torch_networks  # noqa: E402

_CLIP = {'size': 'B', 'patch': 32, 'pre_norm': True, 'norm_epsilon': 1e-5}
_QUICK = {**_CLIP, 'gelu': 'quick'}
_SIGLIP = {'size': 'B', 'pool': 'attention'}
_DINOV2 = {'size': 'S', 'patch': 14, 'layer_scale': 1e-5}
_REGISTERS = {**_DINOV2, 'num_registers': 4}
_DEIT3 = {'size': 'S', 'layer_scale': 1e-6}
# By timm's name: `config.model.name`, its options, and (height, width).
CASES = {
  'vit_tiny_patch16_224': ('vit', {'size': 'Ti'}, (64, 48)),
  'vit_small_patch16_224': ('vit', {'size': 'S'}, (48, 32)),
  'vit_base_patch32_clip_224': ('vit', _CLIP, (96, 64)),
  'vit_base_patch32_clip_quickgelu_224': ('vit', _QUICK, (96, 64)),
  'vit_base_patch16_siglip_224': ('vit', _SIGLIP, (48, 32)),
  'vit_small_patch14_dinov2': ('vit', _DINOV2, (56, 42)),
  'vit_small_patch14_reg4_dinov2': ('vit', _REGISTERS, (56, 42)),
  'deit3_small_patch16_224': ('vit', _DEIT3, (48, 32)),
  'tf_efficientnet_lite0': ('efficientnet_lite', {}, (75, 50)),
  'tf_efficientnet_lite2': ('efficientnet_lite', {'variant': 2}, (48, 64)),
  'convnext_atto': ('convnext', {'size': 'atto'}, (64, 96)),
  'convnext_tiny': ('convnext', {'size': 'tiny'}, (64, 32)),
  'convnextv2_atto': ('convnext', {'size': 'atto', 'version': 2}, (64, 96)),
}
NUM_CLASSES = 7


def make_timm_network(name, image_shape):
  """A network with random weights, and its arrays."""
  network = torch_networks.randomize(create(name, image_shape))
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


def compare(model, variables, timm_network, image_shape):
  """Compares embeddings and logits of random images."""
  images, tensors = torch_networks.random_images(image_shape)

  @jax.jit
  def apply(variables, images):
    embedding = model.apply(variables, images, train=False, method='embed')
    return embedding, model.apply(variables, images, train=False)

  embedding, logits = apply(variables, images)
  with torch.no_grad():
    features = timm_network.forward_features(tensors)
    expected = timm_network.forward_head(features, pre_logits=True).numpy()
    expected_logits = timm_network(tensors).numpy()
  torch_networks.assert_close(embedding, expected)
  torch_networks.assert_close(logits, expected_logits)


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
