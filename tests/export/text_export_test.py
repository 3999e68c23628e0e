"""Exports of networks with a text branch."""

import dataclasses
import json

from etils import epath
import numpy as np
import pytest

from genre_flax import api
from genre_flax.datasets.posters import text_features
from genre_flax.evaluation import calibration as calibration_lib
from genre_flax.inference import image_files
from genre_flax.inference import image_inputs
from genre_flax.inference import predictor as predictor_lib
from genre_flax.runtime import errors
from genre_flax.training import train
from tests.export import predict_script_test
from tests.support import helpers
from tests.support import text_readers

safetensors = pytest.importorskip('safetensors.numpy')
onnxruntime = pytest.importorskip(
  'onnxruntime', reason='onnxruntime is not installed (28 MB)'
)

from genre_flax.export import export  # noqa: E402
from genre_flax.export import verification  # noqa: E402
from genre_flax.export import web_export  # noqa: E402


@pytest.fixture(scope='module')
def predictor(text_workdir):
  """With test-time crops, and calibrations that differ a lot."""
  predictor = predictor_lib.restore(text_workdir)
  config = predictor.config.copy_and_resolve_references()
  config.eval_crops = (1.0, 0.9)
  alone = calibration_lib.identity(predictor.genres)
  alone = dataclasses.replace(alone, intercept=np.array([-1.0, 0.5, 2.0]))
  changed = dataclasses.replace(
    predictor, config=config, calibration_without_text=alone
  )
  return dataclasses.replace(
    changed, eval_step=predictor_lib._make_eval_step(changed)
  )


@pytest.fixture(scope='module')
def onnx_folder(predictor, text_workdir, tmp_path_factory):
  output = tmp_path_factory.mktemp('exported') / 'onnx'
  workdir = epath.Path(text_workdir)
  export.export(predictor, workdir=workdir, format='onnx', output=output)
  return output


@pytest.fixture(scope='module')
def text_alone(text_data_dir, tmp_path_factory):
  folder = tmp_path_factory.mktemp('run')
  config = helpers.tiny_config(
    text_data_dir, **text_readers.OPTIONS, **{'model.name': 'text'}
  )
  train.train(config, folder)
  return epath.Path(folder)


def run_onnx(folder, *arrays):
  session = onnxruntime.InferenceSession(folder / 'model.onnx')
  names = ('images', 'text_ids', 'text_weights')
  return session.run(None, dict(zip(names, arrays, strict=True)))[0]


def read_config(folder):
  return json.loads((folder / 'config.json').read_text())


def load(predictor, workdir):
  """Images, and their text as a list and as arrays."""
  images, _, arrays = verification.load_images(predictor, workdir)
  names = ('text_ids', 'text_weights')
  text = [
    dict(zip(names, each, strict=True)) for each in zip(*arrays, strict=True)
  ]
  return images, text, arrays


def test_onnx_takes_the_text(predictor, text_workdir, onnx_folder):
  images, text, arrays = load(predictor, text_workdir)
  with_text = predictor.predict(images, batch_size=8, text=text)
  alone = predictor.without_text().predict(images, batch_size=8)
  assert np.abs(with_text - alone).max() > 0.3
  has_text = np.arange(len(images)) % 3 > 0  # In one batch.
  ids, weights = (array * has_text[:, None] for array in arrays)
  scores = run_onnx(onnx_folder, images, ids.astype(np.int32), weights)
  expected = np.where(has_text[:, None], with_text, alone)
  np.testing.assert_allclose(scores, expected, atol=1e-5)


def test_config_describes_the_text(predictor, onnx_folder):
  config = read_config(onnx_folder)
  assert config['inputs'] == ['images', 'text_ids', 'text_weights']
  options = dict(config['text'])
  assert options.pop('hashing') == 'crc32-utf8'
  options['char_ngrams'] = tuple(options['char_ngrams'])
  assert text_features.TextFeatures(**options) == predictor.text
  without = predictor.without_text().calibration
  intercept = config['calibration_without_text']['intercept']
  assert intercept == without.intercept.tolist()
  assert config['thresholds_without_text'] == without.to_dict()['thresholds']
  assert config['verification']['num_with_text'] == len(
    verification.load_images(predictor, '')[0]
  )
  card = (onnx_folder / 'README.md').read_text()
  assert '`text_ids`, int32 [N, 64]' in card


def test_predict_script_predicts_from_the_image_alone(
  predictor, text_posters, onnx_folder, tmp_path
):
  paths = sorted(epath.Path(text_posters).glob('*.jpg'))[:5]
  code = (
    'import json, sys, predict\n'
    "model = predict.Model('.')\n"
    'print(json.dumps([model.predict(path) for path in sys.argv[1:]]))'
  )
  run = predict_script_test.run
  result = run(onnx_folder, '-c', code, *paths, tmp_path=tmp_path)
  [alone] = image_inputs.with_text_reader([predictor], use_text=False)
  expected = image_files.predict_files(alone, paths, batch_size=8)
  for actual, one in zip(json.loads(result.stdout), expected, strict=True):
    scores = [dict(actual)[genre] for genre in predictor.genres]
    np.testing.assert_allclose(scores, one.scores, atol=1e-3)
  result = run(onnx_folder, 'predict.py', '--help', tmp_path=tmp_path)
  assert result.returncode == 0
  assert 'image alone' in result.stdout


def test_web_page_is_of_the_image_alone(
  predictor, text_workdir, tmp_path, monkeypatch, caplog
):
  monkeypatch.setattr(web_export, 'runtime_files', lambda tarball: {})
  entry = {'value': 0.75, 'low': 0.5, 'high': 1.0, 'constant_baseline': 0.25}
  metrics = {
    'split': 'test',
    'num_examples': 12,
    'metrics': {'hit_at_3': entry},
    'without_text': {'hit_at_3': {'value': 0.5}},
  }
  monkeypatch.setattr(
    export.split_metrics, 'read', lambda *arguments, **options: metrics
  )
  output = tmp_path / 'page'
  workdir = epath.Path(text_workdir)
  with caplog.at_level('INFO', logger='absl'):
    export.export(predictor, workdir=workdir, format='web', output=output)
  assert 'export is of the image alone' in caplog.text
  config = read_config(output)
  assert config['is_image_alone']
  assert config['inputs'] == ['images']
  assert config['metrics']['hit_at_3']['value'] == 0.5
  assert config['calibration']['intercept'] == [-1.0, 0.5, 2.0]
  assert 'from the image alone' in (output / 'README.md').read_text()


def test_stablehlo_is_of_the_image_alone(predictor, text_workdir, tmp_path):
  pytest.importorskip('flatbuffers')
  output = tmp_path / 'out'
  workdir = epath.Path(text_workdir)
  export.export(predictor, workdir=workdir, format='stablehlo', output=output)
  card = (output / 'README.md').read_text()
  assert 'from the image alone, without the text branch' in card


@pytest.mark.parametrize('format', ['web', 'stablehlo', 'timm'])
def test_text_alone_has_no_branch_of_the_image(text_alone, tmp_path, format):
  predictor = predictor_lib.restore(text_alone)
  with pytest.raises(errors.InputError, match="'text' lacks; --format=onnx"):
    export.export(
      predictor, workdir=text_alone, format=format, output=tmp_path / 'out'
    )
  assert not list(tmp_path.iterdir())


def test_onnx_of_the_text_alone(text_alone, tmp_path):
  predictor = predictor_lib.restore(text_alone)
  output = tmp_path / 'out'
  export.export(predictor, workdir=text_alone, format='onnx', output=output)
  images, text, arrays = load(predictor, text_alone)
  np.testing.assert_allclose(
    run_onnx(output, images, *arrays),
    predictor.predict(images, batch_size=8, text=text),
    atol=1e-5,
  )
  assert not (output / 'predict.py').exists()


def test_release_stores_the_text_kernel_in_float16(
  predictor, text_workdir, text_posters, tmp_path
):
  output = tmp_path / 'out'
  workdir = epath.Path(text_workdir)
  export.export(predictor, workdir=workdir, format='release', output=output)
  stored = safetensors.load_file(output / 'model.safetensors')
  dtypes = {path: array.dtype for path, array in stored.items()}
  assert dtypes.pop('params/text/kernel') == np.float16
  assert set(dtypes.values()) == {np.dtype(np.float32)}
  config = read_config(output)
  assert config['verification']['max_difference'] == 0
  assert not {'thresholds_without_text', 'calibration'} & set(config)
  paths = [text_posters / '0.jpg', text_posters / '1.jpg']
  options = {'use_text': True, 'text_reader': text_readers.READER}
  for keywords in (options, {'use_text': False}):
    [expected] = image_inputs.with_text_reader([predictor], **keywords)
    expected = image_files.predict_files(
      expected, [epath.Path(path) for path in paths], batch_size=8
    )
    found = api.load(output, **keywords).predict(paths)
    for one, other in zip(found, expected, strict=True):
      scores = [one.scores[genre] for genre in predictor.genres]
      np.testing.assert_allclose(scores, other.scores, atol=2e-3)
