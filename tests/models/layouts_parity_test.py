"""Weights in others' files compute what they do there."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from configs import default
from genre_flax.models import registry
from genre_flax.pretrained import published
from genre_flax.pretrained import timm_weights

torch = pytest.importorskip('torch', reason="needs: pip install -e '.[parity]'")
timm = pytest.importorskip('timm', reason="needs: pip install -e '.[parity]'")
transformers = pytest.importorskip(
  'transformers', reason="needs: pip install -e '.[parity]'"
)

SIDE = 64
_TI = {
  'hidden_size': 192,
  'num_hidden_layers': 12,
  'num_attention_heads': 3,
  'image_size': SIDE,
  'patch_size': 16,
}
_MLP = {'intermediate_size': 768}
# Of each network of transformers': its options, what ours is called, and ours.
CASES = {
  'ViT': ({**_TI, **_MLP, 'layer_norm_eps': 1e-6}, 'vit', {}),
  'Dinov2': (_TI, 'vit', {'layer_scale': 1.0}),
  'Dinov2WithRegisters': (
    _TI,
    'vit',
    {'layer_scale': 1.0, 'num_registers': 4},
  ),
  'CLIPVision': (
    {**_TI, **_MLP},
    'vit',
    {'pre_norm': True, 'norm_epsilon': 1e-5, 'gelu': 'quick'},
  ),
  'SiglipVision': (
    {**_TI, **_MLP},
    'vit',
    {'pool': 'attention', 'gelu': 'tanh'},
  ),
  'ConvNext': (
    {'depths': [2, 2, 6, 2], 'hidden_sizes': [40, 80, 160, 320]},
    'convnext',
    {'size': 'atto'},
  ),
  'ConvNextV2': (
    {'depths': [2, 2, 6, 2], 'hidden_sizes': [40, 80, 160, 320]},
    'convnext',
    {'size': 'atto', 'version': 2},
  ),
}


def shake(network):
  """Random parameters that all matter."""
  torch.manual_seed(0)
  with torch.no_grad():
    for name, parameter in network.named_parameters():
      if parameter.ndim < 2 or 'grn' in name:
        near = 0.0 if name.endswith('bias') else 1.0
        parameter.copy_(near + 0.2 * torch.randn_like(parameter))
      elif 'embed' in name and 'patch' not in name or 'probe' in name:
        parameter.copy_(torch.randn_like(parameter))
  return network.eval()


def features_of_ours(source, name, options):
  """The features of random images with the weights of a file; the images."""
  config = default.get_config().model
  config.name = name
  config[name].update({'size': 'Ti', **options} if name == 'vit' else options)
  model = registry.create_from_config(config, num_genres=3)
  found = published.read(str(source))
  taken = timm_weights.to_variables(
    found.arrays,
    network=name,
    options=config[name].to_dict(),
    image_shape=(SIDE, SIDE),
    origin=found.origin,
  )
  images = np.random.default_rng(0).normal(size=(2, SIDE, SIDE, 3))
  images = images.astype(np.float32)

  @jax.jit
  def features(params, images):
    return model.apply({'params': params}, images, train=False, method='embed')

  tensors = torch.from_numpy(images.transpose(0, 3, 1, 2).copy())
  return features(taken.params, jnp.asarray(images)), tensors, found


def assert_close(got, expected):
  assert np.std(expected) > 0.01
  scale = max(1.0, np.abs(expected).max())
  np.testing.assert_allclose(got, expected, atol=1e-4 * scale)


@pytest.mark.parametrize('name', CASES)
def test_a_tower_of_transformers_computes_the_same(name, tmp_path):
  options, network, ours = CASES[name]
  config = getattr(transformers, f'{name}Config')(**options)
  theirs = shake(getattr(transformers, f'{name}Model')(config))
  theirs.save_pretrained(tmp_path)
  features, tensors, _ = features_of_ours(
    tmp_path / 'model.safetensors', network, ours
  )
  with torch.no_grad():
    out = theirs(tensors)
  pooled = out.pooler_output
  if name == 'ViT':  # Its pooler is a layer more, of the first training.
    pooled = out.last_hidden_state[:, 0]
  assert_close(features, pooled.numpy())


@pytest.mark.parametrize('name', ['CLIP', 'Siglip'])
def test_a_tower_is_taken_out_of_a_whole_network(name, tmp_path):
  options, network, ours = CASES[f'{name}Vision']
  text = {'num_hidden_layers': 1, 'vocab_size': 99}
  config = getattr(transformers, f'{name}Config')(
    text_config=text, vision_config=options
  )
  theirs = shake(getattr(transformers, f'{name}Model')(config))
  theirs.save_pretrained(tmp_path)
  features, tensors, found = features_of_ours(
    tmp_path / 'model.safetensors', network, ours
  )
  with torch.no_grad():
    out = theirs.vision_model(tensors)
  assert_close(features, out.pooler_output.numpy())
  beside = {
    name
    for name, _ in theirs.named_parameters()
    if not name.startswith('vision_model.')
  }
  assert beside and beside <= set(found.beside)


def big_vision_arrays(network, *, style):
  """A ViT of timm's as vit_jax or big_vision write it."""
  state = {k: v.numpy() for k, v in network.state_dict().items()}
  width, heads = 192, 3
  is_old = style == 'vit_jax'
  numbers = (0, 1, 2, 3) if is_old else (0, 0, 1, 0)
  arrays = {
    'embedding/kernel': state['patch_embed.proj.weight'].transpose(2, 3, 1, 0),
    'embedding/bias': state['patch_embed.proj.bias'],
  }

  def attention(to, q, k, v, out):
    for part, (kernel, bias) in {'query': q, 'key': k, 'value': v}.items():
      arrays[f'{to}/{part}/kernel'] = kernel.T.reshape(width, heads, -1)
      arrays[f'{to}/{part}/bias'] = bias.reshape(heads, -1)
    arrays[f'{to}/out/kernel'] = out[0].T.reshape(heads, -1, width)
    arrays[f'{to}/out/bias'] = out[1]

  def norm(to, of):
    arrays[f'{to}/scale'] = state[f'{of}.weight']
    arrays[f'{to}/bias'] = state[f'{of}.bias']

  def mlp(to, of):
    for number in (1, 2):
      to_dense = f'{to}/Dense_{number - 1}'
      arrays[f'{to_dense}/kernel'] = state[f'{of}.fc{number}.weight'].T
      arrays[f'{to_dense}/bias'] = state[f'{of}.fc{number}.bias']

  def pair(of):
    return state[f'{of}.weight'], state[f'{of}.bias']

  def parts(of, count):
    return zip(*(np.split(a, count) for a in pair(of)), strict=True)

  for number in range(12):
    to, of = f'Transformer/encoderblock_{number}', f'blocks.{number}'
    norm(f'{to}/LayerNorm_{numbers[0]}', f'{of}.norm1')
    attention(
      f'{to}/MultiHeadDotProductAttention_{numbers[1]}',
      *parts(f'{of}.attn.qkv', 3),
      pair(f'{of}.attn.proj'),
    )
    norm(f'{to}/LayerNorm_{numbers[2]}', f'{of}.norm2')
    mlp(f'{to}/MlpBlock_{numbers[3]}', f'{of}.mlp')
  norm('Transformer/encoder_norm', 'norm')
  if is_old:
    arrays['cls'] = state['cls_token']
    arrays['Transformer/posembed_input/pos_embedding'] = state['pos_embed']
    return arrays
  arrays['pos_embedding'] = state['pos_embed']
  arrays['MAPHead_0/probe'] = state['attn_pool.latent']
  attention(
    'MAPHead_0/MultiHeadDotProductAttention_0',
    pair('attn_pool.q'),
    *parts('attn_pool.kv', 2),
    pair('attn_pool.proj'),
  )
  norm('MAPHead_0/LayerNorm_0', 'attn_pool.norm')
  mlp('MAPHead_0/MlpBlock_0', 'attn_pool.mlp')
  return {f'params/img/{name}': array for name, array in arrays.items()} | {
    'params/t': np.zeros(1),
    'params/txt/head/kernel': np.zeros((3, 3)),
  }


def scanned(arrays):
  """All blocks in one array, as big_vision may keep them."""
  kept, blocks = {}, {}
  for name, array in arrays.items():
    before, is_block, rest = name.partition('Transformer/encoderblock_')
    number, _, rest = rest.partition('/')
    if is_block:
      blocks.setdefault(f'{before}Transformer/encoderblock/{rest}', {})[
        int(number)
      ] = array
    else:
      kept[name] = array
  return kept | {
    name: np.stack([of[number] for number in sorted(of)])
    for name, of in blocks.items()
  }


@pytest.mark.parametrize(
  ('style', 'finish'),
  [
    ('vit_jax', dict),
    ('big_vision', dict),
    ('big_vision', scanned),
  ],
)
def test_an_npz_computes_what_timm_makes_of_it(style, finish, tmp_path):
  pool = 'token' if style == 'vit_jax' else 'map'

  def make():
    return timm.models.vision_transformer.VisionTransformer(
      img_size=SIDE,
      embed_dim=192,
      num_heads=3,
      num_classes=0,
      global_pool=pool,
      class_token=pool == 'token',
    )

  arrays = big_vision_arrays(shake(make()), style=style)
  source = tmp_path / 'weights.npz'
  np.savez(source, **finish(arrays))
  theirs = make().eval()
  theirs.load_pretrained(str(source))
  features, tensors, found = features_of_ours(
    source, 'vit', {} if style == 'vit_jax' else {'pool': 'attention'}
  )
  assert found.said.pixels == ((0.5, 0.5, 0.5), (0.5, 0.5, 0.5))
  others = ['params/t', 'params/txt/head/kernel']
  assert found.beside == (others if style == 'big_vision' else [])
  with torch.no_grad():
    assert_close(features, theirs(tensors).numpy())
