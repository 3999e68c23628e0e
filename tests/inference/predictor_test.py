"""Tests of the predictor."""

import numpy as np
import pytest

from genre_flax.data import image_decoding
from genre_flax.datasets.posters import build
from genre_flax.datasets.posters import storage
from genre_flax.datasets.posters import synthetic
from genre_flax.evaluation import calibration_fit
from genre_flax.inference import predictor as predictor_lib
from genre_flax.runtime import errors
from genre_flax.runtime import metric_writer
from genre_flax.training import train
from tests.support import helpers


def test_best_checkpoint_has_the_best_validation_metric(trained_workdir):
  scores = {
    line['step']: line['mean_average_precision']
    for line in metric_writer.read(trained_workdir)
    if line['split'] == 'validation'
  }
  best = predictor_lib.restore(trained_workdir, step='best').step
  assert scores[best] == max(scores.values())
  assert predictor_lib.restore(trained_workdir, step='latest').step == 30


@pytest.mark.parametrize('count', [1, 8, 11])
def test_padding_does_not_change_scores(trained_predictor, dataset, count):
  records = dataset.open_split('train')
  pixels = np.stack(
    [
      image_decoding.decode_and_resize(records[i].image, height=32, width=24)
      for i in range(count)
    ]
  )
  scores = trained_predictor.predict(pixels, batch_size=8)
  assert scores.shape == (count, len(dataset.genres))
  single = trained_predictor.predict(pixels[-1:], batch_size=16)
  np.testing.assert_allclose(scores[-1:], single, atol=1e-6)


def test_calibration_is_fitted_to_the_validation_split(
  trained_predictor, dataset
):
  predictions = trained_predictor.evaluate_split(
    dataset, 'validation', batch_size=8
  )
  fitted = calibration_fit.fit(
    predictions.logits,
    predictions.labels,
    genres=dataset.genres,
    counts=dataset.label_sets,
  )
  np.testing.assert_allclose(
    trained_predictor.calibration.slope, fitted.slope, atol=1e-4
  )
  assert not np.allclose(trained_predictor.calibration.slope, 1)


def test_ema_parameters_are_used(data_dir, tmp_path):
  config = helpers.tiny_config(data_dir, ema_decay=0.999)
  train.train(config, tmp_path)
  state = helpers.final_state(config, tmp_path)
  params = predictor_lib.restore(tmp_path, step='latest').variables['params']
  helpers.assert_trees_equal(params, state.ema_params)
  assert not np.array_equal(
    params['head']['kernel'], state.params['head']['kernel']
  )


def test_checksum_depends_on_the_variables(trained_predictor, trained_workdir):
  same = predictor_lib.restore(trained_workdir)
  assert same.checksum() == trained_predictor.checksum()
  same.variables['params']['head']['bias'] += 1e-3
  assert same.checksum() != trained_predictor.checksum()


def test_dataset_with_other_genres_is_rejected(trained_predictor, tmp_path):
  csv_file, folder = synthetic.write_posters(
    tmp_path / 'posters', num_posters=60
  )
  build.build(
    build.sources_lib.Source(csv_file, folder),
    data_dir=tmp_path / 'data',
    exclude_genres=['Western'],
    skip_bad=True,
  )
  with pytest.raises(errors.InputError, match=r"missing \['Western'\]"):
    trained_predictor.evaluate_split(
      storage.open_dataset(tmp_path / 'data'), 'test', batch_size=8
    )
