"""Arrays by timm's names that fit a network of ours, and that do not."""

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


def test_a_grid_that_is_no_square_comes_back_as_it_went(tmp_path):
  config, _, params = published_weights.make('vit', (48, 32))
  source = published_weights.write(tmp_path, config, params, described=False)
  taken = published_weights.load(source, config, (48, 32))
  helpers.assert_trees_close(taken, params, atol=1e-6)


def test_a_grid_of_as_many_patches_as_a_square_is_told_by_the_config(tmp_path):
  config, _, params = published_weights.make('vit', (64, 16))
  source = published_weights.write(tmp_path, config, params, described=False)
  # Published weights are of a square, where nothing else is said.
  square = params['backbone']['position'].reshape(4, 4, 32)
  expected, _ = vit_positions.resample(square, (8, 2))
  got = published_weights.load(source, config, (64, 16))['backbone']['position']
  np.testing.assert_array_equal(got, expected)
  given = {'pretrained_cfg': {'input_size': [3, 64, 16]}}
  (tmp_path / 'config.json').write_text(json.dumps(given))
  taken = published_weights.load(source, config, (64, 16))
  helpers.assert_trees_close(taken, params, atol=1e-6)


def test_what_was_done_is_told(tmp_path, caplog):
  config, _, params = published_weights.make('vit', (32, 32))
  caplog.set_level('INFO')
  taken = published_weights.load(
    published_weights.write(tmp_path, config, params), config, (24, 16)
  )
  assert taken['backbone']['position'].shape == (3, 2, 32)
  assert 'positions of 4 x 4 patches to 3 x 2' in caplog.text
  assert (
    f'in place of {published_weights.MEAN} and {published_weights.STD}'
    in caplog.text
  )


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
  config, _, params = published_weights.make('vit', (32, 32))
  source = published_weights.write(tmp_path, config, params, **changes)
  with pytest.raises(errors.InputError, match=words):
    published_weights.load(source, config)


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
  config, _, params = published_weights.make('vit', (32, 32))
  add = {name: np.zeros(shape, np.float32)}
  if options:
    add['reg_token'] = np.zeros((1, 4, 32), np.float32)
  source = published_weights.write(tmp_path, config, params, add=add.items())
  config.vit.update(options)
  with pytest.raises(
    errors.InputError,
    match=name.replace('patch_embed.proj.bias', 'embed/dense/bias'),
  ):
    published_weights.load(source, config)


def test_a_class_token_may_have_one_axis_as_that_of_clip(tmp_path):
  config, _, params = published_weights.make('vit', (32, 32))
  given = params['backbone']['tokens'].reshape(-1)
  source = published_weights.write(
    tmp_path, config, params, described=False, add={'cls_token': given}.items()
  )
  helpers.assert_trees_close(
    published_weights.load(source, config), params, atol=1e-6
  )


def test_a_network_without_a_first_layer_is_told(tmp_path):
  config, _, params = published_weights.make('vit', (32, 32))
  norm = {f'norm_pre.{k}': np.ones(32, np.float32) for k in ('weight', 'bias')}
  source = published_weights.write(
    tmp_path,
    config,
    params,
    drop=('patch_embed.proj.weight', 'patch_embed.proj.bias'),
    add=norm.items(),
  )
  config.vit.pre_norm = True
  with pytest.raises(errors.InputError, match='proj.weight. missing'):
    published_weights.load(source, config)


def test_an_array_of_another_rank_is_told_by_name(tmp_path):
  config, _, params = published_weights.make('vit', (32, 32))
  flat = {'patch_embed.proj.weight': np.zeros(7, np.float32)}
  source = published_weights.write(tmp_path, config, params, add=flat.items())
  with pytest.raises(
    errors.InputError, match=r'patch_embed.proj.weight has the shape'
  ):
    published_weights.load(source, config)
