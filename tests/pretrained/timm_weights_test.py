"""Conversion of arrays with timm's names, of matching and other shapes."""

import json

import numpy as np
import pytest

from genre_flax.pretrained import vit_positions
from genre_flax.runtime import errors
from tests.support import helpers
from tests.support import published_weights

pytest.importorskip(
  'safetensors', reason="needs: pip install -e '.[pretrained]'"
)
pytestmark = pytest.mark.usefixtures('short_networks')


def test_a_grid_that_is_no_square_is_restored(tmp_path):
  config, _, params = published_weights.make_network('vit', (48, 32))
  source = published_weights.write(tmp_path, config, params, with_config=False)
  loaded = published_weights.load(source, config, (48, 32))
  helpers.assert_trees_close(loaded, params, atol=1e-6)


def test_patches_are_a_square_unless_the_config_file_has_a_size(tmp_path):
  config, _, params = published_weights.make_network('vit', (64, 16))
  source = published_weights.write(tmp_path, config, params, with_config=False)
  square = params['backbone']['position'].reshape(4, 4, 32)
  expected = vit_positions.resample(square, (8, 2))
  got = published_weights.load(source, config, (64, 16))['backbone']['position']
  np.testing.assert_array_equal(got, expected)
  described = {'pretrained_cfg': {'input_size': [3, 64, 16]}}
  (tmp_path / 'config.json').write_text(json.dumps(described))
  loaded = published_weights.load(source, config, (64, 16))
  helpers.assert_trees_close(loaded, params, atol=1e-6)


@pytest.mark.parametrize(
  ('options', 'drop', 'replaced', 'message'),
  [
    ({}, ['norm.weight'], {}, 'missing: norm.weight; left over: none'),
    ({}, [], {'fc_norm.bias': (3,)}, 'missing: none; left over: fc_norm.bias'),
    ({}, [], {'pos_embed': (1, 18, 32)}, 'no square'),
    ({}, [], {'patch_embed.proj.weight': (32, 3, 4, 4)}, 'proj.weight has'),
    ({}, [], {'patch_embed.proj.weight': (7,)}, 'proj.weight has the shape'),
    ({}, [], {'patch_embed.proj.bias': (7,)}, 'embed/dense/bias has the shape'),
    ({}, [], {'cls_token': (1, 1, 8)}, r'cls_token \(1, 1, 8\)'),
    ({}, [], {'cls_token': ()}, r'cls_token \(\)'),
    ({}, [], {'pos_embed': (1, 0, 32)}, r'pos_embed \(1, 0, 32\)'),
    ({}, ['pos_embed'], {}, 'pos_embed missing'),
    ({'num_registers': 4}, [], {}, 'reg_token missing'),
    (
      {'pre_norm': True},
      ['patch_embed.proj.weight', 'patch_embed.proj.bias'],
      {'norm_pre.weight': (32,), 'norm_pre.bias': (32,)},
      'missing: patch_embed.proj.weight;',
    ),
  ],
)
def test_arrays_of_other_networks_raise_an_error(
  tmp_path, options, drop, replaced, message
):
  config, _, params = published_weights.make_network('vit', (32, 32))
  replaced = {k: np.zeros(v, np.float32) for k, v in replaced.items()}
  source = published_weights.write(
    tmp_path, config, params, drop=drop, **replaced
  )
  config.vit.update(options)
  with pytest.raises(errors.InputError, match=message):
    published_weights.load(source, config)


def test_the_position_of_a_class_token_is_added_to_it(tmp_path):
  config, _, params = published_weights.make_network('vit', (32, 32))
  tokens, position = (params['backbone'][k] for k in ('tokens', 'position'))
  added = np.ones((1, 32), np.float32)
  source = published_weights.write(
    tmp_path,
    config,
    params,
    with_config=False,
    cls_token=(tokens - added).reshape(-1),  # One axis, as in CLIP.
    pos_embed=np.concatenate([added, position.reshape(-1, 32)])[None],
  )
  helpers.assert_trees_close(
    published_weights.load(source, config), params, atol=1e-6
  )
