"""The predictor and what is made with it: files, splits, summaries."""

import json

from etils import epath
import numpy as np
import pytest

from genre_flax.data import preprocess
from genre_flax.datasets.posters import build
from genre_flax.datasets.posters import storage
from genre_flax.datasets.posters import synthetic
from genre_flax.evaluation import calibration_fit
from genre_flax.evaluation import metrics
from genre_flax.inference import image_files
from genre_flax.inference import predictions
from genre_flax.inference import predictor as predictor_lib
from genre_flax.inference import scored_split
from genre_flax.reports import summary
from genre_flax.runtime import errors
from genre_flax.training import train
from tests.support import helpers


@pytest.fixture(scope='module')
def workdir(data_dir, tmp_path_factory):
  folder = tmp_path_factory.mktemp('run')
  config = helpers.tiny_config(data_dir, num_train_steps=30)
  train.train(config, folder)
  return folder


@pytest.fixture(scope='module')
def predictor(workdir):
  return predictor_lib.restore(workdir)


@pytest.fixture
def posters(tmp_path):
  """Five poster files, the third of them no image."""
  _, folder = synthetic.write_posters(tmp_path, num_posters=5, seed=3)
  (folder / 'synthetic00002.jpg').write_text('<html></html>')
  return folder


def test_needs_the_workdir_alone(predictor, dataset):
  assert predictor.genres == dataset.genres
  assert predictor.image_shape == (32, 24)
  np.testing.assert_array_equal(predictor.label_prior, dataset.label_prior)


def test_the_best_checkpoint_has_the_best_validation_metric(workdir):
  from genre_flax.runtime import metric_writer

  scores = {
    line['step']: line['mean_average_precision']
    for line in metric_writer.read(workdir)
    if line['split'] == 'validation'
  }
  best = predictor_lib.restore(workdir, step='best').step
  assert scores[best] == max(scores.values())
  assert predictor_lib.restore(workdir, step='latest').step == 30


@pytest.mark.parametrize('count', [1, 8, 11])
def test_padding_does_not_change_scores(predictor, dataset, count):
  records = dataset.open_split('train')
  pixels = np.stack(
    [
      preprocess.decode_and_resize(records[i].image, height=32, width=24)
      for i in range(count)
    ]
  )
  scores = predictor.predict(pixels, batch_size=8)
  assert scores.shape == (count, len(dataset.genres))
  alone = predictor.predict(pixels[-1:], batch_size=16)
  np.testing.assert_allclose(scores[-1:], alone, atol=1e-6)


def test_files_and_splits_are_scored_alike(predictor, dataset, tmp_path):
  predictions = predictor.evaluate_split(dataset, 'test', batch_size=8)
  scores = predictor.calibration.to_scores(predictions.logits)
  records = dataset.open_split('test')
  for i in range(3):
    (tmp_path / f'{i}.jpg').write_bytes(records[i].image)
  results = list(
    image_files.predict_files(
      predictor, image_files.find([str(tmp_path)]), batch_size=2
    )
  )
  for i, result in enumerate(results):
    np.testing.assert_allclose(result.scores, scores[i], atol=1e-6)


def test_the_calibration_was_fitted_to_the_validation_split(predictor, dataset):
  found = predictor.evaluate_split(dataset, 'validation', batch_size=8)
  again = calibration_fit.fit(found.logits, found.labels, genres=dataset.genres)
  np.testing.assert_allclose(
    predictor.calibration.slope, again.slope, atol=1e-4
  )
  assert not np.allclose(predictor.calibration.slope, 1)


def test_the_moving_average_is_what_is_served(data_dir, tmp_path):
  config = helpers.tiny_config(data_dir, ema_decay=0.999)
  train.train(config, tmp_path)

  state = helpers.final_state(config, tmp_path)
  served = predictor_lib.restore(tmp_path, step='latest').variables['params']
  helpers.assert_trees_equal(served, state.ema_params)
  assert not np.array_equal(
    served['head']['kernel'], state.params['head']['kernel']
  )


class TestFiles:
  def test_an_unreadable_file_is_reported_and_passed_over(
    self, predictor, posters
  ):
    files = image_files.find([str(posters), str(posters / 'nothing.jpg')])
    results = list(image_files.predict_files(predictor, files, batch_size=2))
    assert [result.path for result in results] == files
    assert [result.error is None for result in results] == [
      True,
      True,
      False,
      True,
      True,
      False,
    ]
    assert 'HTML' in results[2].error
    assert 'no such file' in results[5].error

  def test_a_step_has_no_more_images_than_there_are(
    self, predictor, posters, monkeypatch
  ):
    sizes = []
    original = predictor_lib.Predictor.predict

    def predict_and_note(self, images, *, batch_size):
      sizes.append(batch_size)
      return original(self, images, batch_size=batch_size)

    monkeypatch.setattr(predictor_lib.Predictor, 'predict', predict_and_note)
    files = image_files.find([str(posters)])
    assert len(list(image_files.predict_files(predictor, files, batch_size=64)))
    assert sizes == [predictor.fit_batch_size(5)]

  def test_folders_are_searched_for_images(self, posters):
    (posters / 'deep').mkdir()
    (posters / 'synthetic00001.jpg').rename(posters / 'deep' / 'b.JPG')
    (posters / 'notes.txt').write_text('no image')
    names = [file.name for file in image_files.find([str(posters)])]
    assert sorted(names) == [
      'b.JPG',
      'synthetic00000.jpg',
      'synthetic00002.jpg',
      'synthetic00003.jpg',
      'synthetic00004.jpg',
    ]

  def test_a_folder_without_images_is_refused(self, tmp_path):
    with pytest.raises(errors.InputError, match='no image in'):
      image_files.find([str(tmp_path)])


@pytest.fixture(scope='module')
def made(predictor, dataset, tmp_path_factory):
  return summary.summarize(
    scored_split.score_split(predictor, dataset, 'test', batch_size=5),
    output=epath.Path(tmp_path_factory.mktemp('summary') / 'new'),
    bootstrap_samples=20,
  )


class TestSummary:
  def test_files_hold_what_was_found(self, made, predictor, dataset):
    stored = json.loads(made.metrics_path.read_text())
    assert stored == made.report
    assert stored['split'] == 'test'
    assert stored['step'] == predictor.step
    assert stored['num_examples'] == dataset.num_examples('test')
    assert metrics.METRICS.keys() < stored['metrics'].keys()
    assert made.sheet_path.exists()
    table = made.metrics_path.parent / predictions.FILE_NAME
    assert len(table.read_text().splitlines()) == 1 + stored['num_examples']

  def test_examples_name_three_genres_and_the_truth(self, made):
    assert len(made.examples) == 5
    for line in made.examples:
      assert line.startswith('synthetic')
      assert line.count(' right)') == 1

  def test_other_genres_are_refused(self, predictor, tmp_path):
    csv_file, folder = synthetic.write_posters(
      tmp_path / 'posters', num_posters=60
    )
    build.build(
      build.sources_lib.Source(epath.Path(csv_file), epath.Path(folder)),
      data_dir=tmp_path / 'data',
      exclude_genres=['Western'],
      skip_bad=True,
    )
    with pytest.raises(errors.InputError, match=r"lacks \['Western'\]"):
      predictor.evaluate_split(
        storage.open_dataset(tmp_path / 'data'), 'test', batch_size=8
      )


def test_a_damaged_checkpoint_is_a_clear_error(data_dir, tmp_path):
  config = helpers.tiny_config(data_dir)
  train.train(config, tmp_path)
  for path in (tmp_path / 'checkpoints' / '6' / 'model').rglob('*'):
    if path.is_file():
      path.write_bytes(b'')
  with pytest.raises(errors.InputError, match='Checkpoint 6 cannot be read'):
    predictor_lib.restore(tmp_path, step='6')
