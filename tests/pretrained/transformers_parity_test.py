"""Vision towers agree with transformers', with weights from their files."""

import jax
import pytest

from configs import default
from genre_flax.models import registry
from genre_flax.pretrained import sources
from genre_flax.pretrained import timm_weights

torch = pytest.importorskip('torch', reason="needs: pip install -e '.[parity]'")
transformers = pytest.importorskip(
  'transformers', reason="needs: pip install -e '.[parity]'"
)

from tests.support import torch_networks  # noqa: E402

SIDE = 64
_TI = {
  'hidden_size': 192,
  'num_hidden_layers': 12,
  'num_attention_heads': 3,
  'image_size': SIDE,
  'patch_size': 16,
}
_MLP = {'intermediate_size': 768}
_ATTO = {'depths': [2, 2, 6, 2], 'hidden_sizes': [40, 80, 160, 320]}
# By transformers' name: its options, `config.model.name` and its options.
CASES = {
  'ViT': ({**_TI, **_MLP, 'layer_norm_eps': 1e-6}, 'vit', {}),
  'Dinov2': (_TI, 'vit', {'layer_scale': 1.0}),
  'Dinov2WithRegisters': (_TI, 'vit', {'layer_scale': 1.0, 'num_registers': 4}),
  'CLIPVision': (
    {**_TI, **_MLP},
    'vit',
    {'pre_norm': True, 'norm_epsilon': 1e-5, 'gelu': 'quick'},
  ),
  'SiglipVision': (_TI | _MLP, 'vit', {'pool': 'attention', 'gelu': 'tanh'}),
  'ConvNext': (_ATTO, 'convnext', {'size': 'atto'}),
  'ConvNextV2': (_ATTO, 'convnext', {'size': 'atto', 'version': 2}),
}


def embed_images(source, name, options):
  """Embeddings of random images, the images, and the weights of a file."""
  config = default.get_config().model
  config.name = name
  config[name].update({'size': 'Ti', **options} if name == 'vit' else options)
  model = registry.create_from_config(config, num_genres=3)
  weights = sources.read(str(source))
  result = timm_weights.to_variables(
    weights.arrays,
    network=name,
    options=config[name].to_dict(),
    image_shape=(SIDE, SIDE),
    origin=str(source),
  )
  images, tensors = torch_networks.random_images((SIDE, SIDE))

  @jax.jit
  def embed(params, images):
    return model.apply({'params': params}, images, train=False, method='embed')

  return embed(result.params, images), tensors, weights


@pytest.mark.parametrize('name', CASES)
def test_embeddings_agree_with_transformers(name, tmp_path):
  tower_options, network, options = CASES[name]
  config = getattr(transformers, f'{name}Config')(**tower_options)
  tower = torch_networks.randomize(
    getattr(transformers, f'{name}Model')(config)
  )
  tower.save_pretrained(tmp_path)
  embeddings, tensors, _ = embed_images(
    tmp_path / 'model.safetensors', network, options
  )
  with torch.no_grad():
    outputs = tower(tensors)
  expected = outputs.pooler_output
  if name == 'ViT':  # Its pooler is an additional layer for pretraining.
    expected = outputs.last_hidden_state[:, 0]
  torch_networks.assert_close(embeddings, expected.numpy())


@pytest.mark.parametrize('name', ['CLIP', 'Siglip'])
def test_the_vision_tower_of_a_larger_network_is_used(name, tmp_path):
  tower_options, network, options = CASES[f'{name}Vision']
  text = {'num_hidden_layers': 1, 'vocab_size': 99}
  config = getattr(transformers, f'{name}Config')(
    text_config=text, vision_config=tower_options
  )
  whole = torch_networks.randomize(
    getattr(transformers, f'{name}Model')(config)
  )
  whole.save_pretrained(tmp_path)
  embeddings, tensors, weights = embed_images(
    tmp_path / 'model.safetensors', network, options
  )
  with torch.no_grad():
    outputs = whole.vision_model(tensors)
  torch_networks.assert_close(embeddings, outputs.pooler_output.numpy())
  extra = {
    name
    for name, _ in whole.named_parameters()
    if not name.startswith('vision_model.')
  }
  assert extra and extra <= set(weights.extra_keys)
