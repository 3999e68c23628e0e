"""Weights from files and from a hub that is played."""

import dataclasses
import json
import sys
import types

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from configs import default
from genre_flax.pretrained import published
from genre_flax.runtime import errors
from genre_flax.training import setup
from genre_flax.training import train
from tests.support import helpers
from tests.support import published_weights

safetensors = pytest.importorskip(
  'safetensors.numpy', reason="needs: pip install -e '.[pretrained]'"
)

pytestmark = pytest.mark.usefixtures('short_networks')


@pytest.mark.parametrize('name', published_weights.OPTIONS)
def test_pixels_of_another_range_give_the_same_features(name, tmp_path):
  config, model, params = published_weights.make(name, (32, 32))
  source = published_weights.write(tmp_path, config, params)
  pixels = np.random.default_rng(1).uniform(0, 255, (2, 32, 32, 3))
  theirs = (pixels / 255 - published_weights.MEAN) / published_weights.STD
  ours = (pixels - 127.5) / 60

  @jax.jit
  def features(params, images):
    return model.apply({'params': params}, images, train=False, method='embed')

  expected = features(params, jnp.asarray(theirs, jnp.float32))
  got = features(
    published_weights.load(source, config), jnp.asarray(ours, jnp.float32)
  )
  np.testing.assert_allclose(got, expected, atol=1e-4)


def test_without_a_word_on_pixels_the_weights_are_as_they_are(tmp_path, caplog):
  config, _, params = published_weights.make('convnext', (32, 32))
  source = published_weights.write(tmp_path, config, params, described=False)
  helpers.assert_trees_close(
    published_weights.load(source, config), params, atol=1e-6
  )
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
  config, _, params = published_weights.make('convnext', (32, 32))
  source = published_weights.write(tmp_path, config, params)
  (tmp_path / 'config.json').write_text(content)
  helpers.assert_trees_close(
    published_weights.load(source, config), params, atol=1e-6
  )
  assert f'{tmp_path / "config.json"}' in caplog.text
  assert words in caplog.text


def test_what_is_left_of_a_file_is_logged(tmp_path, caplog, monkeypatch):
  config, _, params = published_weights.make('vit', (32, 32))
  found = dataclasses.replace(
    published.read(published_weights.write(tmp_path, config, params)),
    beside=('text_model.embeddings.weight', 'logit_scale'),
  )
  monkeypatch.setattr(published, 'read', lambda _: found)
  with caplog.at_level('INFO'):
    published_weights.load('CLIP', config)
  assert 'left head.weight, of their head' in caplog.text
  assert (
    'left 2 arrays beside the network, such as text_model.embeddings.weight'
    in caplog.text
  )


def test_an_efficientnet_that_pads_otherwise_is_refused(tmp_path):
  config = default.get_config().model
  config.name = 'efficientnet_lite'
  safetensors.save_file({'x': np.zeros(1)}, tmp_path / 'model.safetensors')
  given = {'architecture': 'efficientnet_lite0'}
  (tmp_path / 'config.json').write_text(json.dumps(given))
  with pytest.raises(errors.InputError, match='timm:tf_efficientnet_lite0'):
    published_weights.load(str(tmp_path / 'model.safetensors'), config)


def test_a_shape_that_does_not_fit_is_told_by_name(
  data_dir, tmp_path, short_networks
):
  config, _, params = published_weights.make('vit', (32, 32))
  wide = {'norm.weight': np.zeros(33, np.float32)}
  source = published_weights.write(
    tmp_path / 'w', config, params, add=wide.items()
  )
  with pytest.raises(errors.InputError, match='backbone/norm/scale'):
    train.train(vit_config(data_dir, source), tmp_path / 'run')


@pytest.mark.parametrize('content', [b'', b'no safetensors', b'\xff' * 64])
def test_what_is_no_file_of_weights_is_told(tmp_path, content):
  config, _, _ = published_weights.make('vit', (32, 32))
  (tmp_path / 'x.safetensors').write_bytes(content)
  with pytest.raises(errors.InputError, match='is not a file of safetensors'):
    published_weights.load(str(tmp_path / 'x.safetensors'), config)
  with pytest.raises(errors.InputError, match='There is no file'):
    published_weights.load(str(tmp_path / 'y.safetensors'), config)


def test_shapes_that_no_network_has_are_told(tmp_path):
  config, _, _ = published_weights.make('vit', (32, 32))
  source = str(tmp_path / 'vit.npz')
  embedding = {'embedding/kernel': np.zeros((4, 4, 3, 8))}
  np.savez(source, **embedding)
  with pytest.raises(errors.InputError, match='vit.npz has no pos_embed'):
    published_weights.load(source, config)
  block = 'Transformer/encoderblock_0/MultiHeadDotProductAttention_1'
  np.savez(source, **embedding, **{f'{block}/out/kernel': np.zeros((0, 0))})
  with pytest.raises(errors.InputError, match='not its shapes'):
    published_weights.load(source, config)


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
  config, _, params = published_weights.make('vit', (32, 32))
  source = published_weights.write(tmp_path / 'w', config, params)
  config = vit_config(data_dir, source)
  train.train(config, tmp_path / 'run')
  state = helpers.final_state(config, tmp_path / 'run')
  # What is frozen is what the file has, in the blocks.
  helpers.assert_trees_equal(
    jax.device_get(state.params['backbone']['block_00']),
    params['backbone']['block_00'],
  )


def test_a_source_needs_a_network_that_can_take_it(data_dir, tmp_path):
  config = helpers.tiny_config(data_dir, pretrained='timm:vit_tiny')
  with pytest.raises(errors.InputError, match=r"'convnext' or .*'vit'.*'tiny'"):
    setup.set_up(config, tmp_path)
  config = helpers.tiny_config(data_dir, pretrained='weights.bin')
  with pytest.raises(errors.InputError, match='a file of .safetensors or .npz'):
    setup.set_up(config, tmp_path)


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
  config, _, params = published_weights.make('convnext', (32, 32))
  published_weights.write(tmp_path, config, params)
  hub = Hub(tmp_path)
  monkeypatch.setitem(sys.modules, 'huggingface_hub', hub)
  found = published.read('timm:convnext_tiny.in12k')
  assert found.said.pixels == (published_weights.MEAN, published_weights.STD)
  assert hub.asked[:2] == [
    ('timm/convnext_tiny.in12k', 'model.safetensors'),
    ('timm/convnext_tiny.in12k', 'config.json'),
  ]


def test_a_name_may_be_of_any_owner(tmp_path, monkeypatch):
  config, _, params = published_weights.make('convnext', (32, 32))
  published_weights.write(tmp_path, config, params)
  (tmp_path / 'config.json').write_text('{"model_type": "convnext"}')
  given = {
    'image_mean': published_weights.MEAN,
    'image_std': published_weights.STD,
  }
  (tmp_path / 'preprocessor_config.json').write_text(json.dumps(given))
  hub = Hub(tmp_path)
  monkeypatch.setitem(sys.modules, 'huggingface_hub', hub)
  found = published.read('hf:somebody/convnext')
  assert found.said.pixels == (published_weights.MEAN, published_weights.STD)
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
