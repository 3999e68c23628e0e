"""Trainings of networks with a text branch, from posters to predictions."""

import json
import pathlib

from etils import epath
import matplotlib
import numpy as np
from PIL import Image
from PIL import ImageDraw
from PIL import ImageFont
import pytest

from genre_flax import api
from genre_flax import config as config_lib
from genre_flax import config_validation
from genre_flax.attribution import words
from genre_flax.datasets.posters import build
from genre_flax.datasets.posters import extension
from genre_flax.datasets.posters import poster_text
from genre_flax.datasets.posters import sources
from genre_flax.datasets.posters import storage
from genre_flax.inference import predictor as predictor_lib
from genre_flax.inference import scored_split
from genre_flax.reports import split_report
from genre_flax.runtime import errors
from genre_flax.training import train
from tests.support import helpers
from tests.support import text_readers


def test_a_genre_that_a_word_decides_is_learned(text_data_dir, text_workdir):
  predictor = predictor_lib.restore(text_workdir, step='latest')
  dataset = storage.open_dataset(text_data_dir)
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


def test_text_is_read_at_prediction_time(text_posters, text_workdir):
  model = api.load(text_workdir, text_reader=text_readers.READER)
  paths = [text_posters / '0.jpg', text_posters / '1.jpg']
  night, day = model.predict(paths)
  assert night.scores['Night'] > 0.8 > 0.2 > day.scores['Night']
  assert night.text == ('THE dark FILM',)
  (_, best), *_ = sorted(
    (-value, word) for word, value in model.explain_words(paths[0], 'Night')
  )
  assert best == 'dark'
  assert model.explain(paths[0]).shape == model.explain(paths[0], 'Night').shape
  image_only = api.load(text_workdir, use_text=False).predict(paths)
  assert image_only[0].scores['Night'] < 0.8


def test_posters_whose_text_cannot_be_read(
  text_posters, text_workdir, monkeypatch
):
  def fail(self, image):
    raise RuntimeError('no text')

  monkeypatch.setattr(text_readers.ColorReader, '__call__', fail)
  content = (text_posters / '2.jpg').read_bytes()
  model = api.load(text_workdir, text_reader=text_readers.READER)
  [failed] = model.predict([content])
  [expected] = api.load(text_workdir, use_text=False).predict([content])
  assert failed.text == ()
  assert failed.scores == pytest.approx(expected.scores, abs=1e-6)


def test_without_a_reader_splits_are_scored_with_their_text(
  text_posters, text_data_dir, text_workdir, monkeypatch, caplog
):
  monkeypatch.setattr(poster_text, 'is_installed', lambda: False)
  model = api.load(text_workdir)
  assert "pip install -e '.[ocr]'" in caplog.text
  [prediction] = model.predict([text_posters / '0.jpg'])
  assert prediction.text == ()
  report = api.evaluate(model, text_data_dir, bootstrap_samples=0)
  assert report['without_text']['mean_average_precision']['difference'] > 0


def test_words_explain_the_predictions(text_workdir):
  predictor = predictor_lib.restore(text_workdir)
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


def test_resuming_is_exact(text_data_dir, tmp_path, monkeypatch):
  config = helpers.tiny_config(
    text_data_dir, **text_readers.OPTIONS, **{'model.use_text': True}
  )
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


def test_the_text_alone(text_data_dir, tmp_path):
  config = helpers.tiny_config(
    text_data_dir,
    **text_readers.OPTIONS,
    **{'model.name': 'text', 'optimizer.name': 'sgd'},
  )
  config.optimizer.learning_rate = 1.0
  config.num_train_steps = 30
  outcome = train.train(config, tmp_path)
  assert outcome.metrics['mean_roc_auc'] > 0.8
  with pytest.raises(errors.InputError, match='text on posters alone'):
    predictor_lib.restore(tmp_path).without_text()


def test_a_dataset_without_text_is_refused(text_posters, tmp_path):
  build.build(
    sources.Source(text_posters / 'train.csv', text_posters),
    data_dir=tmp_path / 'data',
  )
  config = helpers.tiny_config(tmp_path / 'data', **{'model.use_text': True})
  with pytest.raises(errors.InputError, match='prepare --read_text'):
    train.train(config, tmp_path / 'run')


def test_reports_show_the_words_and_the_gain_by_the_text(text_workdir, capsys):
  config = config_lib.from_dict(
    json.loads((text_workdir / 'config.json').read_text())
  )
  split_report.evaluate_best(config, epath.Path(text_workdir))
  printed = capsys.readouterr().out
  assert '(image: without the text on the posters)' in printed
  stored = json.loads((text_workdir / 'metrics.json').read_text())
  gain = stored['without_text']['mean_average_precision']
  together = stored['metrics']['mean_average_precision']['value']
  assert gain['value'] + gain['difference'] == pytest.approx(together)
  assert gain['difference'] > 0
  page = (text_workdir / 'report.html').read_text()
  assert 'Words for Day: bright' in page
  assert 'id="r0-words"' in page


def test_report_of_the_text_alone(text_data_dir, tmp_path):
  config = helpers.tiny_config(
    text_data_dir, **text_readers.OPTIONS, **{'model.name': 'text'}
  )
  train.train(config, tmp_path)
  split_report.evaluate_best(config, epath.Path(tmp_path))
  stored = json.loads((tmp_path / 'metrics.json').read_text())
  assert 'without_text' not in stored


def test_metrics_of_training_are_those_of_top3(text_data_dir, text_workdir):
  predictor = predictor_lib.restore(text_workdir, step='latest')
  found = api.evaluate(
    api.load(text_workdir, step='latest', use_text=True),
    text_data_dir,
    split='validation',
    bootstrap_samples=0,
  )
  lines = [
    json.loads(line)
    for line in (text_workdir / 'metrics.jsonl').read_text().splitlines()
  ]
  [last] = [
    line
    for line in lines
    if (line['split'], line['step']) == ('validation', predictor.step)
  ]
  assert found['metrics']['recall_at_3']['value'] == pytest.approx(
    last['recall_at_3']
  )


# Fonts of Matplotlib.
FONTS = ('DejaVuSans-Bold', 'DejaVuSerif', 'DejaVuSansMono', 'STIXGeneral')
WORDS = {'Crime': ('MURDER', 'DETECTIVE'), 'Romance': ('WEDDING', 'KISSES')}


def draw(word, *, font, seed):
  """A poster of the word, on a background of a random color."""
  random = np.random.default_rng(seed)
  paper = tuple(random.integers(150, 256, 3).tolist())
  image = Image.new('RGB', (300, 440), paper)
  path = pathlib.Path(matplotlib.get_data_path(), 'fonts', 'ttf', f'{font}.ttf')
  font = ImageFont.truetype(path, int(random.integers(28, 44)))
  place = (20, int(random.integers(20, 380)))
  ImageDraw.Draw(image).text(place, word, 'black', font)
  return image


@pytest.mark.slow
@pytest.mark.skipif(
  not poster_text.is_installed(), reason="needs: pip install -e '.[ocr]'"
)
def test_rendered_words_decide_genres(tmp_path):
  """From images to predictions with RapidOCR; the network is the text alone."""
  rows = ['Id,Genre']
  for i in range(64):
    genre = list(WORDS)[i % 2]
    word = WORDS[genre][i // 2 % 2]
    draw(word, font=FONTS[i % 3], seed=i).save(tmp_path / f'{i}.jpg')
    rows.append(f'{i},{genre}')
  table = tmp_path / 'train.csv'
  table.write_text('\n'.join(rows))
  build.build(
    sources.Source(table, tmp_path), data_dir=tmp_path / 'data', text_reader=''
  )
  config = helpers.tiny_config(
    tmp_path / 'data',
    **text_readers.OPTIONS,
    **{'model.use_text': True, 'num_train_steps': 60},
  )
  train.train(config, tmp_path / 'run')
  model = api.load(tmp_path / 'run')
  for number, (genre, words_) in enumerate(WORDS.items()):
    # Another font, another place, and lower case.
    image = draw(words_[0].lower(), font=FONTS[3], seed=100 + number)
    [prediction] = model.predict([image])
    assert prediction.text[0].lower() == words_[0].lower()
    assert prediction.top(1)[0][0] == genre
    assert prediction.scores[genre] > 0.7


def test_layer_decay_leaves_the_text_branch(text_data_dir, tmp_path):
  options = {'model.use_text': True, 'optimizer.layer_decay': 0.5}
  config = helpers.tiny_config(text_data_dir, **text_readers.OPTIONS, **options)
  train.train(config, tmp_path)
  kernel = helpers.final_state(config, tmp_path).params['text']['kernel']
  assert np.abs(kernel).max() > 0


@pytest.mark.parametrize(
  ('changes', 'message'),
  [
    ({'model.name': 'text'}, 'choose one'),
    ({'trainable': 'head/.*'}, 'freezes the text branch'),
    ({'augment.mixup_alpha': 0.2}, 'no text'),
    (
      {'model.text.max_word_ngram': 0, 'model.text.char_ngrams': (0, 0)},
      'leave no n-grams',
    ),
  ],
)
def test_conflicts_of_text_are_refused(changes, message):
  config = helpers.tiny_config('data', **{'model.use_text': True, **changes})
  with pytest.raises(errors.InputError, match=message):
    config_validation.validate(config)


def test_a_fold_is_found_after_text_is_added(text_posters, tmp_path):
  folder = tmp_path / 'data'
  build.build(
    sources.Source(text_posters / 'train.csv', text_posters),
    data_dir=folder,
  )
  config = helpers.tiny_config(folder, **{'dataset.fold': '2/5'})
  train.train(config, tmp_path / 'run')
  predictor = predictor_lib.restore(tmp_path / 'run')
  before = predictor.open_dataset(str(folder)).open_split('validation')
  extension.extend(folder, text_reader=text_readers.READER)
  after = predictor.open_dataset(str(folder)).open_split('validation')
  assert [each.id for each in after] == [each.id for each in before]
