"""timm exports: read back by this package, and by timm if installed."""

import dataclasses
import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from configs import default
from genre_flax.evaluation import calibration as calibration_lib
from genre_flax.export import export
from genre_flax.export import prediction_function
from genre_flax.export import verification
from genre_flax.inference import predictor as predictor_lib
from genre_flax.models import registry
from genre_flax.runtime import errors
from genre_flax.runtime import parallel
from tests.support import helpers

for package in ('safetensors', 'huggingface_hub'):
  pytest.importorskip(package, reason=f'{package} is not installed')

from genre_flax.export import timm_export  # noqa: E402

_SHAPE = (64, 32)
CASES = {
  'vit': {'patch': 8},
  'vit with all options': {
    'patch': 8,
    'pool': 'attention',
    'num_registers': 2,
    'pre_norm': True,
    'norm_epsilon': 1e-5,
    'gelu': 'quick',
    'layer_scale': 1e-5,
    'feature_norm': True,
  },
  'vit with mean pooling': {'patch': 8, 'pool': 'mean', 'gelu': 'tanh'},
  'convnext': {'feature_norm': True},
  'convnext of version 2': {'version': 2},
  'efficientnet_lite': {'feature_norm': True},
}


@pytest.fixture
def make(predictor, request):
  """Creates predictors of random, calibrated networks, by their CASES."""

  def make(case):
    config = default.get_config()
    config.update(predictor.config.to_dict())
    name = config.model.name = case.split()[0]
    if name != 'efficientnet_lite':  # timm creates it by its name alone.
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


@pytest.mark.parametrize(
  'case',
  ['vit', *(pytest.param(c, marks=pytest.mark.slow) for c in [*CASES][1:])],
)
def test_timm_computes_the_same_logits(case, make, workdir, tmp_path):
  folder = tmp_path / 'out'
  predictor = make(case)
  config = export.export(
    predictor, workdir=workdir, format='timm', output=folder
  )
  verified = config['verification']
  assert verified['num_same_top_3'] == verified['num_posters'] == 12
  files = sorted(path.name for path in folder.iterdir())
  assert files == ['README.md', 'config.json', 'model.safetensors']
  timm = pytest.importorskip(
    'timm', reason="verified without timm: pip install -e '.[parity]'"
  )
  import torch

  network = timm.create_model(f'local-dir:{folder}', pretrained=True).eval()
  pixels = timm.data.resolve_model_data_config(network)
  assert list(pixels['input_size']) == [3, *_SHAPE]
  images = verification.load_images(predictor, workdir)[0][:5]
  scaled = (images / 255 - pixels['mean']) / pixels['std']
  with torch.no_grad():
    logits = network(
      torch.from_numpy(scaled.transpose(0, 3, 1, 2).astype(np.float32))
    ).numpy()
  config = predictor.config.copy_and_resolve_references()
  config.eval_crops = (1.0,)  # timm has no test-time augmentation.
  expected = prediction_function.make(
    dataclasses.replace(
      timm_export.without_label_sets(predictor), config=config
    )
  )
  _, expected = jax.jit(expected)(jnp.asarray(images))
  assert np.std(logits) > 0.1
  np.testing.assert_allclose(
    logits, expected, atol=1e-4 * np.abs(expected).max()
  )
  assert network.pretrained_cfg['label_names'] == list(predictor.genres)


def test_calibration_is_part_of_the_head(make, workdir, tmp_path):
  predictor = make('vit')
  config = export.export(
    predictor, workdir=workdir, format='timm', output=tmp_path / 'out'
  )
  assert json.loads((tmp_path / 'out/config.json').read_text()) == config
  identity = calibration_lib.identity(predictor.genres)
  assert config['calibration']['slope'] == identity.slope.tolist()
  assert config['calibration']['intercept'] == identity.intercept.tolist()
  assert config['label_sets'] is None
  assert 'thresholds' not in config  # They are for scores with label sets.
  assert config['architecture'] == 'vit_small_patch16_224'


@pytest.mark.parametrize(
  'case, changes, message',
  [
    (None, {}, "no 'tiny'.*convnext"),
    ('efficientnet_lite', {'stage_features': True}, 'stage_features=True'),
    ('vit', {'norm_epsilon': 1e-4}, r'norm_epsilon=0.0001; it has'),
  ],
)
def test_networks_that_timm_lacks_are_refused(
  predictor, make, workdir, tmp_path, case, changes, message
):
  if case:
    predictor = make(case)
    predictor.config.model[case].update(changes)
  with pytest.raises(errors.InputError, match=message):
    export.export(
      predictor, workdir=workdir, format='timm', output=tmp_path / 'out'
    )
  assert not list(tmp_path.iterdir())
