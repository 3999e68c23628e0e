"""Tests of networks with extra columns as inputs, and of runs on folds."""

import csv

from etils import epath
import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from genre_flax.attribution import methods
from genre_flax.datasets.posters import build
from genre_flax.datasets.posters import columns
from genre_flax.datasets.posters import sources
from genre_flax.datasets.posters import storage
from genre_flax.datasets.posters import synthetic
from genre_flax.evaluation import constant_baseline
from genre_flax.inference import ensemble
from genre_flax.inference import image_inputs
from genre_flax.inference import predictor as predictor_lib
from genre_flax.inference import scored_split
from genre_flax.models import side_inputs
from genre_flax.runtime import errors
from genre_flax.runtime import parallel
from genre_flax.training import feature_cache
from genre_flax.training import restore
from genre_flax.training import setup as setup_lib
from genre_flax.training import train
from tests.support import helpers

NET = f'{__name__}:Net'


class Net(nn.Module):
  """Its logits depend on the mean color, the year and the country."""

  num_genres: int
  dtype: object
  axis_name: object
  mixes_examples = False

  @nn.compact
  def __call__(self, images, *, train, year, country):
    inputs = [
      images.mean(axis=(1, 2)),
      (year[:, None] - 1980) / 10,
      jax.nn.one_hot(country, 3),
    ]
    inputs = jnp.concatenate(inputs, axis=1)
    return nn.Dense(self.num_genres, name='head')(inputs)


@pytest.fixture(scope='module')
def extra_dir(tmp_path_factory):
  """96 posters with years and countries: 64, 16 and 16."""
  folder = epath.Path(tmp_path_factory.mktemp('posters'))
  table, images = synthetic.write_posters(folder, num_posters=96)
  rows = list(csv.DictReader(table.read_text().splitlines()))
  for index, row in enumerate(rows):
    row['Split'] = ('train', 'train', 'val', 'train', 'train', 'test')[
      index % 6
    ]
    row['year'] = '' if index % 10 == 0 else 1960 + index % 50
    row['country'] = ('FR', 'US', '')[index // 6 % 3]
  with table.open('w') as file:
    writer = csv.DictWriter(file, rows[0].keys())
    writer.writeheader()
    writer.writerows(rows)
  names = columns.Columns(extra=('year', 'country'))
  build.build(sources.Source(table, images, names), data_dir=folder / 'data')
  return folder / 'data'


def net_config(extra_dir, **changes):
  return helpers.tiny_config(
    extra_dir, **{'model.name': NET, 'optimizer.learning_rate': 0.1} | changes
  )


@pytest.fixture(scope='module')
def workdir(extra_dir, tmp_path_factory):
  folder = tmp_path_factory.mktemp('run')
  train.train(net_config(extra_dir), folder)
  return folder


@pytest.fixture(scope='module')
def predictor(workdir):
  return predictor_lib.restore(workdir, allow_custom_code=True)


def expected_logits(predictor, colors, years, countries):
  head = jax.device_get(predictor.variables['params']['head'])
  inputs = np.concatenate(
    [colors, (np.array(years)[:, None] - 1980) / 10, np.eye(3)[countries]],
    axis=1,
  )
  return inputs @ head['kernel'] + head['bias']


def test_evaluation_uses_the_values_of_each_poster(predictor, extra_dir):
  scored = scored_split.score_split(
    predictor, storage.open_dataset(extra_dir), 'test', batch_size=8
  )
  records = [scored.records[i] for i in range(16)]
  years = [float(record.extra['year']) for record in records]
  countries = [int(record.extra['country']) for record in records]
  assert len(set(years)) > 10
  assert set(countries) == {0, 1, 2}
  pixels = np.stack([scored.decode(i, (32, 24)) for i in range(16)])
  colors = (pixels.mean(axis=(1, 2)) - 127.5) / 127.5
  np.testing.assert_allclose(
    scored.predictions.logits,
    expected_logits(predictor, colors, years, countries),
    atol=1e-4,
  )


def test_training_uses_the_values_of_each_poster(
  predictor, extra_dir, tmp_path
):
  config = net_config(extra_dir)
  dataset, setup = setup_lib.set_up(config, tmp_path)
  setup_lib.check_train_step(config, setup, dataset=dataset)
  before = restore.initial_variables(config, dataset, setup.model)['params']
  after = jax.device_get(predictor.variables['params'])
  change = np.abs(after['head']['kernel'] - before['head']['kernel'])
  # Weights of the year and the countries; without gradients, weight decay
  # would change them by less than 0.01.
  assert change[3:].max(axis=1).min() > 0.05


def test_images_have_given_values_or_logged_defaults(predictor, caplog):
  images = np.full((1, 32, 24, 3), 255, np.uint8)

  def scores(*assignments):
    [changed] = image_inputs.with_extra_values([predictor], assignments)
    return changed.predict(images, batch_size=8)

  def expected(year, country):
    logits = expected_logits(predictor, np.ones((1, 3)), [year], [country])
    return predictor.calibration.to_scores(logits)

  np.testing.assert_allclose(
    scores('year=1994', 'country=US'), expected(1994, 2), atol=1e-5
  )
  assert 'Assuming' not in caplog.text
  mean = predictor.extra_columns[0].default
  np.testing.assert_allclose(scores(), expected(mean, 0), atol=1e-5)
  assert f'Assuming year={mean:g}' in caplog.text
  assert 'Assuming country=0' in caplog.text
  for wrong, message in (
    (['month=3'], r"takes: \['country', 'year'\]"),
    (['year=late'], "'late'; expected a number"),
    (['country=DE'], "'DE'; expected one of FR, US"),
  ):
    with pytest.raises(errors.InputError, match=message):
      scores(*wrong)


def test_occlusion_maps_use_the_defaults(predictor):
  images = np.zeros((1, 32, 24, 3), np.uint8)
  images[:, :8] = 255
  maps = methods.Explainer(predictor).maps(images, np.array([[0, 1]]))
  assert maps.shape[:2] == (1, 2)
  with pytest.raises(errors.InputError, match=r"The demo .* \['year'"):
    predictor.require_images_only('The demo')


def test_a_dataset_without_the_column_is_refused(predictor, dataset, tmp_path):
  with pytest.raises(errors.InputError, match="no extra column 'year'"):
    predictor.evaluate_split(dataset, 'test', batch_size=8)
  config = net_config(dataset.data_dir)
  with pytest.raises(errors.InputError, match="'country'.*no extra column"):
    setup_lib.set_up(config, tmp_path)


class Backbone(Net):
  """`embed` takes the year, and `classify` the country."""

  def setup(self):
    self.head = nn.Dense(self.num_genres)

  def __call__(self, images, *, train, year, country):
    features = self.embed(images, train=train, year=year)
    return self.classify(features, train=train, country=country)

  def embed(self, images, *, train, year):
    return jnp.concatenate([images.mean(axis=(1, 2)), year[:, None]], axis=1)

  def classify(self, features, *, train, country):
    return self.head(features) + country[:, None]


def test_each_method_gets_the_columns_that_it_names():
  batch = {'features': 1, 'labels': 2, 'year': 3, 'country': 4, 'mask': 5}
  model = Backbone(num_genres=2, dtype=jnp.float32, axis_name=None)
  for method, expected in (
    ('__call__', {'year': 3, 'country': 4}),
    ('embed', {'year': 3}),
    ('classify', {'country': 4}),
  ):
    assert side_inputs.extra_inputs(model, batch, method) == expected


def test_cached_features_keep_the_columns(extra_dir, tmp_path):
  config = net_config(
    extra_dir,
    **{
      'model.name': f'{__name__}:Backbone',
      'trainable': 'head/.*',
      'dataset.cache': 'features',
      'dataset.cache_dir': str(tmp_path),
      'augment.crop_scale': 1.0,
      **{f'augment.{key}': 0.0 for key in ('translation', 'brightness')},
      'augment.contrast': 0.0,
    },
  )
  train.train(config, tmp_path / 'run')
  predictor = predictor_lib.restore(
    tmp_path / 'run', step='latest', allow_custom_code=True
  )
  dataset = predictor.open_dataset(extra_dir)
  variables = predictor.variables
  records = dataset.open_split('test')
  for _ in range(2):  # Computed, then read.
    split = feature_cache.open_split(
      config,
      dataset,
      'test',
      model=predictor_lib.make_model(predictor, axis_name=parallel.AXIS_NAME),
      variables=variables,
    )
    examples = [split[i] for i in range(len(records))]
    for name in ('year', 'country'):
      values = [example[name] for example in examples]
      assert values == [records[i].extra[name] for i in range(len(records))]
    assert [e['features'][3] for e in examples] == [e['year'] for e in examples]
  head = jax.device_get(variables['params']['head'])
  features = np.stack([example['features'] for example in examples])
  countries = np.array([example['country'] for example in examples])
  predictions = predictor.evaluate_split(dataset, 'test', batch_size=8)
  np.testing.assert_allclose(
    predictions.logits,
    features @ head['kernel'] + head['bias'] + countries[:, None],
    rtol=1e-4,
    atol=1e-3,
  )


def test_a_run_on_a_fold_is_trained_evaluated_and_resumed(
  dataset, tmp_path, trained_predictor
):
  config = helpers.tiny_config(
    dataset.data_dir, **{'dataset.fold': '2/3', 'dataset.cache': 'disk'}
  )
  config.dataset.cache_dir = str(tmp_path / 'cache')
  workdir = tmp_path / 'run'
  train.train(config, workdir)
  predictor = predictor_lib.restore(workdir)
  part = predictor.open_dataset(dataset.data_dir)
  scored = scored_split.score_split(predictor, part, 'validation', batch_size=8)
  held_out, trained = set(scored.ids), part.open_split('train')
  assert len(held_out) == len(scored) == part.num_examples('validation')
  assert held_out.isdisjoint(trained[i].id for i in range(len(trained)))
  np.testing.assert_allclose(predictor.label_prior, part.label_prior)
  assert predictor.constant_baseline == constant_baseline.find(
    part.label_sets, num_genres=len(part.genres)
  )
  names = [path.name for path in (tmp_path / 'cache').iterdir()]
  assert len(names) == 2
  assert all(name.startswith(part.card['fingerprint']) for name in names)
  config.dataset.fold = '1/3'
  with pytest.raises(errors.InputError, match='config.dataset.fold'):
    train.train(config, workdir)
  both = ensemble.combine([predictor, trained_predictor], origins=['a', 'b'])
  assert both.evaluate_split(part, 'test', batch_size=8).logits.shape[0] == 12
  with pytest.raises(errors.InputError, match="'validation' of one overlaps"):
    both.evaluate_split(part, 'validation', batch_size=8)
