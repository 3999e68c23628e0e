"""Trainings of networks with a text branch, from posters to predictions."""

import json

from etils import epath
import numpy as np
from PIL import Image
import pytest

from genre_flax import api
from genre_flax import config as config_lib
from genre_flax.attribution import words
from genre_flax.datasets.posters import build
from genre_flax.datasets.posters import sources
from genre_flax.datasets.posters import storage
from genre_flax.inference import predictor as predictor_lib
from genre_flax.inference import scored_split
from genre_flax.reports import split_report
from genre_flax.runtime import errors
from genre_flax.training import train
from tests.support import helpers
from tests.support import text_readers

READER = 'tests.support.text_readers:ColorReader'
TEXT = {'model.text.num_buckets': 512, 'model.text.max_ngrams': 64}


@pytest.fixture(scope='module')
def posters(tmp_path_factory):
  """Posters of noise: their brightness is a word, which is their genre."""
  folder = tmp_path_factory.mktemp('posters')
  random, rows = np.random.default_rng(0), ['Id,Genre']
  for i in range(120):
    genre = ('Night', 'Day')[i % 2]
    low = 100 * (genre == 'Day')
    pixels = random.integers(low, low + 150, (30, 20, 3), np.uint8)
    Image.fromarray(pixels).save(folder / f'{i}.jpg')
    rows.append(f'{i},{genre}' + '|Other' * (random.random() < 0.5))
  (folder / 'train.csv').write_text('\n'.join(rows))
  return folder


@pytest.fixture(scope='module')
def data_dir(posters, tmp_path_factory):
  folder = tmp_path_factory.mktemp('data')
  build.build(
    sources.Source(posters / 'train.csv', posters),
    data_dir=folder,
    text_reader=READER,
  )
  return folder


@pytest.fixture(scope='module')
def workdir(data_dir, tmp_path_factory):
  """A training of a network of images, frozen, and of the text branch."""
  folder = tmp_path_factory.mktemp('run')
  config = helpers.tiny_config(
    data_dir,
    **TEXT,
    **{'model.use_text': True, 'trainable': 'text/.*', 'num_train_steps': 60},
  )
  train.train(config, folder)
  return folder


def test_a_genre_that_a_word_decides_is_learned(data_dir, workdir):
  predictor = predictor_lib.restore(workdir, step='latest')
  dataset = storage.open_dataset(data_dir)
  index = dataset.genres.index('Day')
  scored = scored_split.score_split(predictor, dataset, 'test', batch_size=8)
  is_day = scored.labels[:, index] > 0
  assert scored.scores[is_day, index].min() > 0.8
  assert scored.scores[~is_day, index].max() < 0.2
  without = scored_split.score_split(
    predictor.without_text(), dataset, 'test', batch_size=8
  )
  assert np.ptp(without.scores[:, index]) < 0.5
  scales = predictor.variables['batch_stats']['fusion_scales']
  assert scales[1] > 1


def test_text_is_read_at_prediction_time(posters, workdir):
  model = api.load(workdir, text_reader=READER)
  paths = [posters / '0.jpg', posters / '1.jpg']
  night, day = model.predict(paths)
  assert night.scores['Night'] > 0.8 > 0.2 > day.scores['Night']
  image_only = api.load(workdir, use_text=False).predict(paths)
  assert image_only[0].scores['Night'] < 0.8


def test_words_explain_the_predictions(workdir):
  predictor = predictor_lib.restore(workdir)
  explainer = words.WordExplainer(predictor)
  [line] = text_readers.ColorReader()(Image.new('RGB', (8, 8), 'white'))
  index = predictor.genres.index('Day')
  (best, *_), against = explainer.strongest([line], index)
  assert best[0] == 'bright'
  assert not any(word == 'bright' for word, _ in against)
  # The contributions, the statistics of the layout and the bias are the logits.
  names, values = explainer.contributions([line])
  assert names == ['the', 'bright', 'film']
  features = predictor.text([line])
  params = predictor.variables['params']['text']
  scale = predictor.variables['batch_stats']['fusion_scales'][1]
  reserved = features['text_ids'] < 8
  weights = np.where(reserved, 0, features['text_weights'])
  expected = scale * weights @ params['kernel'][features['text_ids']]
  np.testing.assert_allclose(values.sum(axis=0), expected, atol=1e-5)


def test_resuming_is_exact(data_dir, tmp_path, monkeypatch):
  config = helpers.tiny_config(data_dir, **TEXT, **{'model.use_text': True})
  config.model.text.dropout_rate = 0.3
  train.train(config, tmp_path / 'whole')
  with monkeypatch.context() as patch:
    patch.setattr(
      train.preemption.StopNotice, 'is_set', lambda self, step: step == 4
    )
    train.train(config, tmp_path / 'parts')
  train.train(config, tmp_path / 'parts')
  helpers.assert_trees_equal(
    helpers.final_state(config, tmp_path / 'parts'),
    helpers.final_state(config, tmp_path / 'whole'),
  )


def test_the_text_alone(data_dir, tmp_path):
  config = helpers.tiny_config(
    data_dir, **TEXT, **{'model.name': 'text', 'optimizer.name': 'sgd'}
  )
  config.optimizer.learning_rate = 1.0
  config.num_train_steps = 30
  outcome = train.train(config, tmp_path)
  assert outcome.metrics['mean_roc_auc'] > 0.8
  with pytest.raises(errors.InputError, match='text on posters alone'):
    predictor_lib.restore(tmp_path).without_text()


def test_a_dataset_without_text_is_refused(posters, tmp_path):
  build.build(
    sources.Source(posters / 'train.csv', posters), data_dir=tmp_path / 'data'
  )
  config = helpers.tiny_config(tmp_path / 'data', **{'model.use_text': True})
  with pytest.raises(errors.InputError, match='prepare --read_text'):
    train.train(config, tmp_path / 'run')


def test_reports_show_the_words_and_the_gain_by_the_text(workdir, capsys):
  config = config_lib.from_dict(
    json.loads((workdir / 'config.json').read_text())
  )
  split_report.evaluate_best(config, epath.Path(workdir))
  printed = capsys.readouterr().out
  assert '(image: without the text on the posters)' in printed
  stored = json.loads((workdir / 'metrics.json').read_text())
  gain = stored['without_text']['mean_average_precision']
  together = stored['metrics']['mean_average_precision']['value']
  assert gain['value'] + gain['difference'] == pytest.approx(together)
  assert gain['difference'] > 0
  page = (workdir / 'report.html').read_text()
  assert 'Words for Day: bright' in page
  assert 'id="r0-words"' in page


def test_report_of_the_text_alone(data_dir, tmp_path):
  config = helpers.tiny_config(data_dir, **TEXT, **{'model.name': 'text'})
  train.train(config, tmp_path)
  split_report.evaluate_best(config, epath.Path(tmp_path))
  stored = json.loads((tmp_path / 'metrics.json').read_text())
  assert 'without_text' not in stored


def test_metrics_of_training_are_those_of_top3(data_dir, workdir):
  predictor = predictor_lib.restore(workdir, step='latest')
  found = api.evaluate(
    api.load(workdir, step='latest', use_text=True),
    data_dir,
    split='validation',
    bootstrap_samples=0,
  )
  lines = [
    json.loads(line)
    for line in (workdir / 'metrics.jsonl').read_text().splitlines()
  ]
  [last] = [
    line
    for line in lines
    if (line['split'], line['step']) == ('validation', predictor.step)
  ]
  assert found['metrics']['recall_at_3']['value'] == pytest.approx(
    last['recall_at_3']
  )
