"""Exports for timm: read back by us, and loaded by timm where it is there."""

import dataclasses
import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from configs import default
from genre_flax.evaluation import calibration as calibration_lib
from genre_flax.export import check
from genre_flax.export import graph
from genre_flax.export import timm_folder
from genre_flax.export import write
from genre_flax.inference import predictor as predictor_lib
from genre_flax.models import registry
from genre_flax.runtime import errors
from genre_flax.runtime import parallel
from tests.support import helpers

for package in ('safetensors', 'huggingface_hub'):
  pytest.importorskip(package, reason=f'{package} is not installed')

_SHAPE = (64, 32)
CASES = {
  'vit': {'patch': 8},
  'vit of every kind': {
    'patch': 8,
    'pool': 'attention',
    'num_registers': 2,
    'pre_norm': True,
    'norm_epsilon': 1e-5,
    'gelu': 'quick',
    'layer_scale': 1e-5,
    'feature_norm': True,
  },
  'vit of means': {'patch': 8, 'pool': 'mean', 'gelu': 'tanh'},
  'convnext': {'feature_norm': True},
  'convnext of version 2': {'version': 2},
  'efficientnet_lite': {'feature_norm': True},
}


@pytest.fixture
def make(predictor, request):
  """Predictors of random networks, calibrated somehow, by their CASES."""

  def make(case):
    config = default.get_config()
    config.update(predictor.config)
    name = config.model.name = case.split()[0]
    if name != 'efficientnet_lite':  # timm builds it by its name alone.
      request.getfixturevalue('short_networks')
    config.model[name].update(CASES[case])
    config.pixel_mean, config.pixel_scale = 120.0, 60.0
    config.image_height, config.image_width = _SHAPE
    model = registry.create_from_config(
      config.model, num_genres=len(predictor.genres)
    )
    variables = helpers.random_variables(model, _SHAPE, spread=0.1)
    random = np.random.default_rng(0)
    changed = dataclasses.replace(
      predictor,
      config=config,
      variables=parallel.replicate({'batch_stats': {}, **variables}),
      calibration=dataclasses.replace(
        predictor.calibration,
        slope=random.uniform(0.5, 1.5, len(predictor.genres)),
        intercept=random.uniform(-1, 1, len(predictor.genres)),
      ),
    )
    return dataclasses.replace(
      changed, eval_step=predictor_lib._make_eval_step(changed)
    )

  return make


def export(predictor, workdir, output):
  return write.export(predictor, workdir=workdir, form='timm', output=output)


@pytest.mark.parametrize('case', CASES)
def test_timm_gives_the_same_logits(case, make, workdir, tmp_path):
  folder = tmp_path / 'out'
  predictor = make(case)
  found = export(predictor, workdir, folder)
  assert found['same_top_three'] == found['num_posters'] == 12
  assert sorted(path.name for path in folder.iterdir()) == [
    'README.md',
    'config.json',
    'model.safetensors',
  ]
  timm = pytest.importorskip(
    'timm', reason="timm: pip install -e '.[parity]'; read back by us alone"
  )
  import torch

  network = timm.create_model(f'local-dir:{folder}', pretrained=True).eval()
  pixels = timm.data.resolve_model_data_config(network)
  assert list(pixels['input_size']) == [3, *_SHAPE]
  images = check.choose_posters(predictor, workdir).images[:5]
  scaled = (images / 255 - pixels['mean']) / pixels['std']
  with torch.no_grad():
    got = network(
      torch.from_numpy(scaled.transpose(0, 3, 1, 2).astype(np.float32))
    ).numpy()
  config = predictor.config.copy_and_resolve_references()
  config.eval_crops = (1.0,)  # A network of timm's looks once.
  alone = timm_folder.score_each_alone(predictor)
  once = graph.make_function(dataclasses.replace(alone, config=config))
  _, logits = jax.jit(once)(jnp.asarray(images))
  assert np.std(got) > 0.1
  np.testing.assert_allclose(got, logits, atol=1e-4 * np.abs(logits).max())
  assert network.pretrained_cfg['label_names'] == list(predictor.genres)


def test_the_calibration_is_in_the_head_alone(make, workdir, tmp_path):
  predictor = make('vit')
  export(predictor, workdir, tmp_path / 'out')
  config = json.loads((tmp_path / 'out' / 'config.json').read_text())
  identity = calibration_lib.identity(predictor.genres)
  assert config['calibration']['slope'] == identity.slope.tolist()
  assert config['calibration']['intercept'] == identity.intercept.tolist()
  assert config['label_sets'] is None
  assert 'thresholds' not in config  # They are for scores with label sets.
  assert config['architecture'] == 'vit_small_patch16_224'
  card = (tmp_path / 'out' / 'README.md').read_text()
  assert "timm.create_model('local-dir:.', pretrained=True)" in card
  assert 'library_name: timm' in card
  assert '1, 0.9 of each side' in card


def test_a_network_that_timm_has_not_is_refused(predictor, workdir, tmp_path):
  with pytest.raises(errors.InputError, match="no network 'tiny'.*'convnext'"):
    export(predictor, workdir, tmp_path / 'out')
  assert not list(tmp_path.iterdir())


def test_a_head_that_sees_every_stage_is_refused(make, workdir, tmp_path):
  predictor = make('efficientnet_lite')
  predictor.config.model.efficientnet_lite.stage_features = True
  with pytest.raises(errors.InputError, match='stage_features=True'):
    export(predictor, workdir, tmp_path / 'out')


def test_a_vit_of_another_epsilon_is_refused(make, workdir, tmp_path):
  predictor = make('vit')
  predictor.config.model.vit.norm_epsilon = 1e-4
  with pytest.raises(errors.InputError, match=r'norm_epsilon=0.0001; it has'):
    export(predictor, workdir, tmp_path / 'out')
