"""Weights from files and from a hub that is played."""

import json
import sys
import types

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from configs import default
from genre_flax.models import pretrained
from genre_flax.models import published
from genre_flax.models import registry
from genre_flax.models import timm_weights
from genre_flax.models import vit_positions
from genre_flax.runtime import errors
from genre_flax.training import run as run_lib
from genre_flax.training import train
from tests.support import helpers

safetensors = pytest.importorskip(
  'safetensors.numpy', reason="needs: pip install -e '.[pretrained]'"
)

MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
OPTIONS = {'vit': {'patch': 8}, 'convnext': {}}
pytestmark = pytest.mark.usefixtures('short_networks')


def make(name, image_shape):
  """A network of random parameters that all matter."""
  config = default.get_config().model
  config.name = name
  config[name].update(OPTIONS[name])
  model = registry.create_from_config(config, num_genres=5)
  variables = helpers.random_variables(model, image_shape, spread=0.1)
  return config, model, variables['params']


def write(folder, config, params, *, described=True, drop=(), add=()):
  arrays = timm_weights.from_variables(
    {'params': params},
    network=config.name,
    options=config[config.name].to_dict(),
  )
  arrays = {k: v for k, v in arrays.items() if k not in drop}
  arrays.update(dict(add))
  folder.mkdir(exist_ok=True)
  safetensors.save_file(arrays, folder / 'model.safetensors')
  if described:
    given = {'pretrained_cfg': {'mean': MEAN, 'std': STD}}
    (folder / 'config.json').write_text(json.dumps(given))
  return str(folder / 'model.safetensors')


def load(source, config, image_shape=(32, 32), **changes):
  options = {'pixel_mean': 127.5, 'pixel_scale': 60.0, **changes}
  return pretrained.load(
    source, model=config, image_shape=image_shape, **options
  )['params']


@pytest.mark.parametrize('name', OPTIONS)
def test_pixels_of_another_range_give_the_same_features(name, tmp_path):
  config, model, params = make(name, (32, 32))
  source = write(tmp_path, config, params)
  pixels = np.random.default_rng(1).uniform(0, 255, (2, 32, 32, 3))
  theirs = (pixels / 255 - MEAN) / STD
  ours = (pixels - 127.5) / 60

  @jax.jit
  def features(params, images):
    return model.apply(
      {'params': params}, images, train=False, method='features'
    )

  expected = features(params, jnp.asarray(theirs, jnp.float32))
  got = features(load(source, config), jnp.asarray(ours, jnp.float32))
  np.testing.assert_allclose(got, expected, atol=1e-4)


def test_without_a_word_on_pixels_the_weights_are_as_they_are(tmp_path, caplog):
  config, _, params = make('convnext', (32, 32))
  source = write(tmp_path, config, params, described=False)
  helpers.assert_trees_close(load(source, config), params, atol=1e-6)
  assert 'there is no ' in caplog.text
  assert 'config.pixel_mean' in caplog.text


@pytest.mark.parametrize(
  ('content', 'words'),
  [
    ('{', 'cannot be read'),
    ('[]', 'cannot be read'),
    ('{"mean": 1}', 'cannot be read'),
    ('{"mean": [1], "std": [0]}', 'no mean and std of three colours'),
    ('{"mean": [0, 0, 0], "std": [1, NaN, 1]}', 'cannot be read'),
    ('{"mean": [0, 0, 0], "std": [1, 1, 1' + '0' * 400 + ']}', 'be read'),
    ('[' * 100_000, 'nested too deeply'),
  ],
)
def test_a_damaged_word_on_pixels_is_told(tmp_path, caplog, content, words):
  config, _, params = make('convnext', (32, 32))
  source = write(tmp_path, config, params)
  (tmp_path / 'config.json').write_text(content)
  helpers.assert_trees_close(load(source, config), params, atol=1e-6)
  assert f'{tmp_path / "config.json"}' in caplog.text
  assert words in caplog.text


def test_a_grid_that_is_no_square_comes_back_as_it_went(tmp_path):
  config, _, params = make('vit', (48, 32))
  source = write(tmp_path, config, params, described=False)
  taken = load(source, config, (48, 32))
  helpers.assert_trees_close(taken, params, atol=1e-6)


def test_a_grid_of_as_many_patches_as_a_square_is_told_by_the_config(tmp_path):
  config, _, params = make('vit', (64, 16))
  source = write(tmp_path, config, params, described=False)
  # Published weights are of a square, where nothing else is said.
  square = params['backbone']['position'].reshape(4, 4, 32)
  expected, _ = vit_positions.resample(square, (8, 2))
  got = load(source, config, (64, 16))['backbone']['position']
  np.testing.assert_array_equal(got, expected)
  given = {'pretrained_cfg': {'input_size': [3, 64, 16]}}
  (tmp_path / 'config.json').write_text(json.dumps(given))
  taken = load(source, config, (64, 16))
  helpers.assert_trees_close(taken, params, atol=1e-6)


def test_what_was_done_is_told(tmp_path, caplog):
  config, _, params = make('vit', (32, 32))
  caplog.set_level('INFO')
  taken = load(write(tmp_path, config, params), config, (24, 16))
  assert taken['backbone']['position'].shape == (3, 2, 32)
  assert 'positions of 4 x 4 patches to 3 x 2' in caplog.text
  assert f'in place of {MEAN} and {STD}' in caplog.text


@pytest.mark.parametrize(
  ('changes', 'words'),
  [
    ({'drop': ('norm.weight',)}, r'1 \(norm.weight\) missing'),
    (
      {'add': {'fc_norm.bias': np.zeros(3)}.items()},
      r'1 \(fc_norm.bias\) left',
    ),
    (
      {'add': {'pos_embed': np.zeros((1, 18, 32), np.float32)}.items()},
      'no square of patches',
    ),
  ],
)
def test_other_weights_are_refused_by_name(tmp_path, changes, words):
  config, _, params = make('vit', (32, 32))
  source = write(tmp_path, config, params, **changes)
  with pytest.raises(errors.InputError, match=words):
    load(source, config)


@pytest.mark.parametrize(
  ('name', 'shape', 'options'),
  [
    ('patch_embed.proj.weight', (32, 3, 4, 4), {}),
    ('patch_embed.proj.weight', (32, 1, 8, 8), {}),
    ('patch_embed.proj.bias', (7,), {}),
    ('cls_token', (1, 1, 8), {}),
    ('cls_token', (), {}),
    ('pos_embed', (), {}),
    ('pos_embed', (1, 0, 32), {}),
    ('pos_embed', (1, 3, 32), {'num_registers': 4}),
  ],
)
def test_the_first_arrays_may_have_any_shape_and_are_told(
  tmp_path, name, shape, options
):
  config, _, params = make('vit', (32, 32))
  add = {name: np.zeros(shape, np.float32)}
  if options:
    add['reg_token'] = np.zeros((1, 4, 32), np.float32)
  source = write(tmp_path, config, params, add=add.items())
  config.vit.update(options)
  with pytest.raises(
    errors.InputError,
    match=name.replace('patch_embed.proj.bias', 'embed/dense/bias'),
  ):
    load(source, config)


def test_a_class_token_may_have_one_axis_as_that_of_clip(tmp_path):
  config, _, params = make('vit', (32, 32))
  given = params['backbone']['tokens'].reshape(-1)
  source = write(
    tmp_path, config, params, described=False, add={'cls_token': given}.items()
  )
  helpers.assert_trees_close(load(source, config), params, atol=1e-6)


def test_a_network_without_a_first_layer_is_told(tmp_path):
  config, _, params = make('vit', (32, 32))
  norm = {f'norm_pre.{k}': np.ones(32, np.float32) for k in ('weight', 'bias')}
  source = write(
    tmp_path,
    config,
    params,
    drop=('patch_embed.proj.weight', 'patch_embed.proj.bias'),
    add=norm.items(),
  )
  config.vit.pre_norm = True
  with pytest.raises(errors.InputError, match='proj.weight. missing'):
    load(source, config)


def test_an_efficientnet_that_pads_otherwise_is_refused(tmp_path):
  config = default.get_config().model
  config.name = 'efficientnet_lite'
  safetensors.save_file({'x': np.zeros(1)}, tmp_path / 'model.safetensors')
  given = {'architecture': 'efficientnet_lite0'}
  (tmp_path / 'config.json').write_text(json.dumps(given))
  with pytest.raises(errors.InputError, match='timm:tf_efficientnet_lite0'):
    load(str(tmp_path / 'model.safetensors'), config)


def test_a_shape_that_does_not_fit_is_told_by_name(
  data_dir, tmp_path, short_networks
):
  config, _, params = make('vit', (32, 32))
  wide = {'norm.weight': np.zeros(33, np.float32)}
  source = write(tmp_path / 'w', config, params, add=wide.items())
  with pytest.raises(errors.InputError, match='backbone/norm/scale'):
    train.train_and_evaluate(vit_config(data_dir, source), tmp_path / 'run')


@pytest.mark.parametrize('content', [b'', b'no safetensors', b'\xff' * 64])
def test_what_is_no_file_of_weights_is_told(tmp_path, content):
  config, _, _ = make('vit', (32, 32))
  (tmp_path / 'x.safetensors').write_bytes(content)
  with pytest.raises(errors.InputError, match='is not a file of safetensors'):
    load(str(tmp_path / 'x.safetensors'), config)
  with pytest.raises(errors.InputError, match='There is no file'):
    load(str(tmp_path / 'y.safetensors'), config)


def test_shapes_that_no_network_has_are_told(tmp_path):
  config, _, _ = make('vit', (32, 32))
  source = str(tmp_path / 'vit.npz')
  embedding = {'embedding/kernel': np.zeros((4, 4, 3, 8))}
  np.savez(source, **embedding)
  with pytest.raises(errors.InputError, match='vit.npz has no pos_embed'):
    load(source, config)
  block = 'Transformer/encoderblock_0/MultiHeadDotProductAttention_1'
  np.savez(source, **embedding, **{f'{block}/out/kernel': np.zeros((0, 0))})
  with pytest.raises(errors.InputError, match='not its shapes'):
    load(source, config)


def test_an_array_of_another_rank_is_told_by_name(tmp_path):
  config, _, params = make('vit', (32, 32))
  flat = {'patch_embed.proj.weight': np.zeros(7, np.float32)}
  source = write(tmp_path, config, params, add=flat.items())
  with pytest.raises(
    errors.InputError, match=r'patch_embed.proj.weight has the shape'
  ):
    load(source, config)


@pytest.mark.parametrize('content', [b'', b'no archive', b'PK\x05\x06' * 9])
def test_what_is_no_npz_is_told(tmp_path, content):
  (tmp_path / 'x.npz').write_bytes(content)
  with pytest.raises(
    errors.InputError, match='is not an .npz that can be read'
  ):
    published.read(str(tmp_path / 'x.npz'))
  with pytest.raises(errors.InputError, match='There is no file'):
    published.read(str(tmp_path / 'y.npz'))


def test_an_npz_runs_no_code(tmp_path):
  np.savez(tmp_path / 'x.npz', cls=np.array([print], dtype=object))
  with pytest.raises(errors.InputError, match='allow_pickle=False'):
    published.read(str(tmp_path / 'x.npz'))


def test_an_npz_may_hold_bfloat16(tmp_path):
  values = np.array([1.5, -2.0], jnp.bfloat16)
  np.savez(tmp_path / 'x.npz', cls=values)  # NumPy keeps two bytes of no type.
  arrays = published.read(str(tmp_path / 'x.npz')).arrays
  np.testing.assert_array_equal(arrays['cls'], [1.5, -2.0])


def vit_config(data_dir, source):
  return helpers.tiny_config(
    data_dir,
    **{
      'model.name': 'vit',
      'model.vit.patch': 8,
      'pretrained': source,
      'trainable': 'head/.*',
      'num_train_steps': 2,
    },
  )


def test_a_training_starts_from_a_file(data_dir, tmp_path):
  config, _, params = make('vit', (32, 32))
  source = write(tmp_path / 'w', config, params)
  config = vit_config(data_dir, source)
  train.train_and_evaluate(config, tmp_path / 'run')
  state = helpers.final_state(config, tmp_path / 'run')
  # What is frozen is what the file has, in the blocks.
  helpers.assert_trees_equal(
    jax.device_get(state.params['backbone']['block_00']),
    params['backbone']['block_00'],
  )


def test_a_source_needs_a_network_that_can_take_it(data_dir, tmp_path):
  config = helpers.tiny_config(data_dir, pretrained='timm:vit_tiny')
  with pytest.raises(errors.InputError, match=r"'convnext' or .*'vit'.*'tiny'"):
    run_lib.set_up(config, tmp_path)
  config = helpers.tiny_config(data_dir, pretrained='weights.bin')
  with pytest.raises(errors.InputError, match='a file of .safetensors or .npz'):
    run_lib.set_up(config, tmp_path)


class Hub(types.ModuleType):
  """A hub that has one network, or cannot be reached."""

  errors = types.SimpleNamespace(
    EntryNotFoundError=KeyError, LocalEntryNotFoundError=FileNotFoundError
  )

  def __init__(self, folder):
    super().__init__('huggingface_hub')
    self.folder, self.asked = folder, []

  def hf_hub_download(self, repository, file):
    self.asked.append((repository, file))
    if self.folder is None:
      raise OSError('no network\nand more')
    if not (self.folder / file).exists():
      raise KeyError(file)
    return str(self.folder / file)


def test_a_name_is_fetched_from_the_hub(tmp_path, monkeypatch):
  config, _, params = make('convnext', (32, 32))
  write(tmp_path, config, params)
  hub = Hub(tmp_path)
  monkeypatch.setitem(sys.modules, 'huggingface_hub', hub)
  found = published.read('timm:convnext_tiny.in12k')
  assert found.said.pixels == (MEAN, STD)
  assert hub.asked[:2] == [
    ('timm/convnext_tiny.in12k', 'model.safetensors'),
    ('timm/convnext_tiny.in12k', 'config.json'),
  ]


def test_a_name_may_be_of_any_owner(tmp_path, monkeypatch):
  config, _, params = make('convnext', (32, 32))
  write(tmp_path, config, params)
  (tmp_path / 'config.json').write_text('{"model_type": "convnext"}')
  given = {'image_mean': MEAN, 'image_std': STD}
  (tmp_path / 'preprocessor_config.json').write_text(json.dumps(given))
  hub = Hub(tmp_path)
  monkeypatch.setitem(sys.modules, 'huggingface_hub', hub)
  found = published.read('hf:somebody/convnext')
  assert found.said.pixels == (MEAN, STD)
  assert {repository for repository, _ in hub.asked} == {'somebody/convnext'}


def test_without_a_network_it_is_said_what_to_do(monkeypatch):
  monkeypatch.setitem(sys.modules, 'huggingface_hub', Hub(None))
  with pytest.raises(errors.InputError) as raised:
    published.read('timm:vit')
  assert str(raised.value) == (
    'timm:vit is not in the cache and cannot be fetched: no network. Where'
    ' there is a network, `hf download timm/vit --include model.safetensors'
    " '*.json' --local-dir FOLDER`; then give"
    ' --config.pretrained=FOLDER/model.safetensors.'
  )


@pytest.mark.parametrize(
  ('module', 'source'),
  [('huggingface_hub', 'timm:vit'), ('safetensors', 'x.safetensors')],
)
def test_a_missing_package_is_named(tmp_path, monkeypatch, module, source):
  monkeypatch.chdir(tmp_path)
  (tmp_path / 'x.safetensors').touch()
  monkeypatch.setitem(sys.modules, module, None)
  with pytest.raises(errors.InputError, match=r"pip install -e '.\[pretr"):
    published.read(source)
