"""The Python API, and released models as it loads them."""

import functools
import io
import json
import pathlib
import re
import shutil
import subprocess
import sys

import huggingface_hub
import jax
import numpy as np
from PIL import Image
import pytest
import safetensors.numpy
import sklearn.metrics

import genre_flax
from genre_flax.checkpoints import released
from genre_flax.data import image_decoding
from genre_flax.datasets.posters import images as images_lib
from genre_flax.datasets.posters import synthetic
from genre_flax.export import export
from genre_flax.models import params
from genre_flax.reports import split_metrics
from genre_flax.runtime import errors
from tests.support import helpers
from tests.support import paths


def poster(index=0):
  return np.asarray(synthetic.draw_poster(index)[0])


def encoded(pixels):
  file = io.BytesIO()
  Image.fromarray(pixels).save(file, 'PNG')
  return file.getvalue()


@pytest.fixture(scope='module')
def model(trained_workdir):
  return genre_flax.load(trained_workdir)


@pytest.fixture(scope='module')
def release(trained_workdir, trained_predictor, tmp_path_factory):
  folder = tmp_path_factory.mktemp('release') / 'model'
  export.export(
    trained_predictor, workdir=trained_workdir, format='release', output=folder
  )
  return folder


def test_the_import_is_lazy():
  code = 'import sys, genre_flax; dir(genre_flax); print("jax" in sys.modules)'
  done = subprocess.run(
    [sys.executable, '-c', code], capture_output=True, text=True, check=True
  )
  assert done.stdout == 'False\n'
  with pytest.raises(AttributeError, match="no attribute 'nothing'"):
    _ = genre_flax.nothing


def test_images_of_every_kind_have_the_same_scores(model, tmp_path):
  pixels = poster()
  path = tmp_path / 'a.png'
  path.write_bytes(encoded(pixels))
  rgba = Image.fromarray(pixels).convert('RGBA')
  images = [
    path,
    str(path),
    encoded(pixels),
    pixels,
    Image.fromarray(pixels),
    rgba,
  ]
  predictions = model.predict(images, batch_size=4)
  height, width = model.predictor.image_shape
  decoded = image_decoding.decode_and_resize(
    encoded(pixels), height=height, width=width
  )
  [expected] = model.predictor.predict(decoded[None], batch_size=8)
  for prediction in predictions:
    scores = [prediction.scores[genre] for genre in model.genres]
    np.testing.assert_allclose(scores, expected, atol=1e-6)
  top = predictions[0].top(2)
  np.testing.assert_allclose(
    [score for _, score in top], sorted(expected)[-2:][::-1], atol=1e-6
  )
  assert predictions[0].genres


def test_upside_down_pil_images_are_turned_upright(model):
  image = Image.fromarray(poster())
  turned = image.transpose(Image.Transpose.ROTATE_180)
  turned.getexif()[0x0112] = 3
  upright, corrected = model.predict([image, turned])
  assert corrected.scores == pytest.approx(upright.scores, abs=1e-6)


def test_unreadable_images_have_an_error(model):
  images = ['missing.jpg', poster(), b'<html>', np.zeros((2, 2)), None]
  results = model.predict(images, batch_size=2)
  assert [each.error is None for each in results] == [0, 1, 0, 0, 0]
  assert results[0].top() == []
  assert 'HTML page' in results[2].error
  assert 'expected uint8 [height, width, 3]' in results[3].error
  with pytest.raises(errors.InputError, match='Expected a list of images'):
    model.predict('a.jpg')


def test_embeddings_and_maps(model):
  assert model.embed([]).shape == (0, model.embed([poster()]).shape[1])
  one, other = model.embed([poster(), poster(1)])
  assert not np.allclose(one, other)
  attribution = model.explain(poster(), genre=model.genres[0])
  assert attribution.min() >= 0
  assert attribution.max() <= 1
  [prediction] = model.predict([poster()])
  [(best, _)] = prediction.top(1)
  np.testing.assert_array_equal(
    model.explain(poster()), model.explain(poster(), genre=best)
  )
  with pytest.raises(errors.InputError, match="no genre 'Jazz'"):
    model.explain(poster(), genre='Jazz')
  with pytest.raises(errors.InputError, match='unreadable'):
    model.explain('missing.jpg')


def test_an_evaluation_agrees_with_scikit_learn(model, dataset, data_dir):
  report = genre_flax.evaluate(
    model, data_dir, split='validation', bootstrap_samples=0
  )
  records = dataset.open_split('validation')
  posters = [records[i] for i in range(len(records))]
  predictions = model.predict([each.image for each in posters])
  assert report['num_examples'] == len(posters) == 12
  for number, genre in enumerate(model.genres):
    labels = [each.labels[number] for each in posters]
    if any(labels):
      expected = sklearn.metrics.average_precision_score(
        labels, [each.scores[genre] for each in predictions]
      )
      found = report['genres'][genre]['average_precision']
      assert found == pytest.approx(expected, abs=1e-6)


def test_an_ensemble(model, trained_workdir):
  both = genre_flax.load(trained_workdir, trained_workdir)
  [one], [mean] = model.predict([poster()]), both.predict([poster()])
  assert mean.scores == pytest.approx(one.scores, abs=1e-6)
  with pytest.raises(errors.InputError, match='ensemble'):
    both.embed([poster()])


def test_a_training(data_dir, tmp_path):
  with pytest.raises(errors.InputError, match="no config 'nothing'"):
    genre_flax.get_config('nothing')
  config = genre_flax.get_config('quickstart')
  assert config.is_locked
  config = helpers.tiny_config(data_dir, num_train_steps=2)
  model = genre_flax.train(config, tmp_path / 'run')
  assert model.predict([poster()])[0].error is None
  assert (tmp_path / 'run' / 'metrics.json').exists()


def test_a_release_has_the_scores_of_the_run(model, release):
  again = genre_flax.load(release)
  [expected], [found] = model.predict([poster()]), again.predict([poster()])
  assert found.scores == pytest.approx(expected.scores, abs=1e-6)
  assert found.genres == expected.genres
  card = (release / 'README.md').read_text()
  assert 'library_name: genre_flax' in card
  assert 'genre_flax.load' in card


@pytest.mark.parametrize(
  ('change', 'message'),
  [
    (lambda folder: damage(folder / 'model.safetensors'), 'checksum'),
    (
      lambda folder: (folder / 'config.json').write_text('{"format": "onnx"}'),
      "its format is 'onnx'",
    ),
    (lambda folder: (folder / 'config.json').unlink(), 'no such file'),
  ],
)
def test_damaged_releases_are_refused(release, tmp_path, change, message):
  folder = shutil.copytree(release, tmp_path / 'copy')
  change(folder)
  with pytest.raises(errors.InputError, match=message):
    genre_flax.load(folder)


def damage(path):
  content = bytearray(path.read_bytes())
  content[-1] ^= 1
  path.write_bytes(content)


def test_an_uploaded_release_is_loaded_from_the_hub(
  model, release, tmp_path, monkeypatch
):
  monkeypatch.setattr(huggingface_hub.constants, 'HF_HUB_CACHE', str(tmp_path))
  monkeypatch.setattr(huggingface_hub.constants, 'HF_HUB_OFFLINE', True)
  with pytest.raises(errors.InputError, match='cannot be downloaded'):
    genre_flax.load('hf:owner/posters')
  # The cache of the hub's own library.
  repo = tmp_path / 'models--owner--posters'
  (repo / 'refs').mkdir(parents=True)
  (repo / 'refs' / 'main').write_text('0' * 40)
  shutil.copytree(release, repo / 'snapshots' / ('0' * 40))
  [expected] = model.predict([poster()])
  [found] = genre_flax.load('hf:owner/posters').predict([poster()])
  assert found.scores == pytest.approx(expected.scores, abs=1e-6)


@pytest.mark.slow
def test_a_training_starts_from_a_release(release, data_dir, tmp_path):
  config = helpers.tiny_config(data_dir, num_train_steps=1)
  config.init_from = str(release)
  config.init_from_parts = 'all'
  config.optimizer.learning_rate = 1e-9
  trained = genre_flax.train(config, tmp_path / 'run')
  jax.tree.map(
    functools.partial(np.testing.assert_allclose, atol=1e-6),
    trained.predictor.variables,
    genre_flax.load(release).predictor.variables,
  )


def test_another_step_of_a_release_is_refused(release):
  with pytest.raises(errors.InputError, match='single checkpoint'):
    genre_flax.load(release, step=3)


def test_every_folder_is_a_released_model():
  folders = (paths.ROOT / 'genre_flax' / 'released').glob('*/config.json')
  assert {path.parent.name for path in folders} == set(released.NAMES)


@pytest.mark.parametrize('name', released.NAMES)
def test_released_models_are_small_and_complete(name):
  folder = pathlib.Path(released.find(name))
  limit = 3_000_000 if name.endswith('text') else 500_000
  assert sum(path.stat().st_size for path in folder.iterdir()) < limit
  content = json.loads((folder / 'config.json').read_text())
  assert set(content['metrics']) >= {'validation', 'test'}
  assert not {'N/A', 'nan'} & set(content['genres'])
  assert content['commit']


@pytest.mark.slow
@pytest.mark.parametrize('name', released.NAMES)
def test_released_models_predict(name):
  content = json.loads((released.find(name) / 'config.json').read_text())
  jpeg = images_lib.to_jpeg(synthetic.draw_poster(0)[0])
  model = genre_flax.load(name)
  [prediction] = model.predict([jpeg])
  assert list(model.genres) == content['genres']
  assert len(prediction.top(3)) == 3


@pytest.mark.slow
def test_the_examples_of_the_page_run(tmp_path, monkeypatch):
  monkeypatch.chdir(tmp_path)
  (tmp_path / 'poster.jpg').write_bytes(
    images_lib.to_jpeg(synthetic.draw_poster(0)[0])
  )
  text = (paths.ROOT / 'docs' / 'python.md').read_text()
  scope = {}
  blocks = re.findall(r'```python\n(.*?)```', text, re.S)
  assert len(blocks) > 3
  for block in blocks:
    exec(block, scope)


def test_lists_are_required(model):
  pixels = poster()
  for images in (Image.fromarray(pixels), pixels, iter([pixels])):
    with pytest.raises(errors.InputError, match='Expected a list of images'):
      model.predict(images)


def test_damaged_pil_images_have_an_error(model, tmp_path):
  path = tmp_path / 'a.jpg'
  path.write_bytes(images_lib.to_jpeg(Image.fromarray(poster()))[:-2000])
  with Image.open(path) as image:
    [prediction] = model.predict([image])
  assert 'cannot be read' in prediction.error


def test_a_folder_with_the_name_of_a_released_model(tmp_path, monkeypatch):
  monkeypatch.chdir(tmp_path)
  (tmp_path / released.NAMES[0] / 'checkpoints').mkdir(parents=True)
  with pytest.raises(errors.InputError, match='the absolute path'):
    genre_flax.load()


def test_releases_with_arrays_of_other_shapes_are_refused(release, tmp_path):
  folder = shutil.copytree(release, tmp_path / 'copy')
  weights = folder / 'model.safetensors'
  arrays = safetensors.numpy.load_file(weights)
  arrays['params/head/bias'] = arrays['params/head/bias'][:1]
  weights.write_bytes(safetensors.numpy.save(arrays))
  config = json.loads((folder / 'config.json').read_text())
  variables = params.unflatten(arrays, sep='/')
  variables.setdefault('batch_stats', {})
  config['checksum'] = released.checksum(variables)
  (folder / 'config.json').write_text(json.dumps(config))
  with pytest.raises(errors.InputError, match='head.*bias'):
    genre_flax.load(folder)


def test_a_release_has_the_metrics_of_its_run(release, tmp_path, monkeypatch):
  config = json.loads((release / 'config.json').read_text())
  assert config['num_train_examples'] == 93
  assert '93 training posters' in (release / 'README.md').read_text()
  stored = {'split': 'test', 'genres': {}}
  (tmp_path / 'model.safetensors').touch()
  (tmp_path / 'config.json').write_text(
    json.dumps({'format': 'release', 'metrics': {'test': stored}})
  )
  with pytest.raises(errors.InputError, match='genres differ'):
    split_metrics.read(tmp_path, step=1, genres=('a',))
