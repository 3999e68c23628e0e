"""Content of exports, verification, and replacement of folders."""

import dataclasses
import json
import subprocess
import sys

import numpy as np
import pytest

from genre_flax import export as export_package
from genre_flax.export import export
from genre_flax.export import verification
from genre_flax.inference import predictor as predictor_lib
from genre_flax.models import params
from genre_flax.runtime import errors
from tests.support import helpers


def read_config(folder):
  return json.loads((folder / 'config.json').read_text())


def test_folder_is_complete(onnx_folder, predictor):
  import onnx
  from safetensors import numpy as safetensors

  names = 'README.md config.json model.onnx model.safetensors predict.py'
  assert sorted(path.name for path in onnx_folder.iterdir()) == names.split()
  config = read_config(onnx_folder)
  assert config['genres'] == list(predictor.genres)
  assert (config['image_height'], config['image_width']) == (32, 24)
  assert config['eval_crops'] == [1.0, 0.9]
  assert config['thresholds'].keys() == {'micro_f1', 'macro_f1', 'exact_match'}
  assert config['dataset_fingerprint'] == predictor.fingerprint
  verified = config['verification']
  assert verified['posters'] == 'posters of test'
  assert verified['num_posters'] == verified['num_same_top_3'] == 12
  assert verified['max_difference'] < 1e-5
  model = onnx.load(onnx_folder / 'model.onnx')
  metadata = {p.key: json.loads(p.value) for p in model.metadata_props}
  assert {**metadata, 'verification': verified} == config
  shape = model.graph.input[0].type.tensor_type.shape
  assert shape.dim[0].dim_param == 'batch'
  arrays = safetensors.load_file(onnx_folder / 'model.safetensors')
  expected = params.flatten(predictor.variables, sep='/')
  assert 'params/head/kernel' in arrays
  helpers.assert_trees_equal(arrays, expected)


_RUN_STABLEHLO = """
import sys
sys.modules['genre_flax'] = None
import jax
import numpy as np
model = jax.export.deserialize(bytearray(open(sys.argv[1], 'rb').read()))
scores, logits = model.call(np.load(sys.argv[2]))
np.save(sys.argv[3], scores)
"""


def test_stablehlo_runs_without_this_package(predictor, workdir, tmp_path):
  for package in ('flatbuffers', 'safetensors', 'huggingface_hub'):
    pytest.importorskip(package)
  output = tmp_path / 'out'
  export.export(predictor, workdir=workdir, format='stablehlo', output=output)
  versions = json.loads((output / 'stablehlo.json').read_text())
  assert versions['platforms'] == ['cpu', 'cuda', 'tpu']
  assert versions['calling_convention'] >= 9
  assert versions['stablehlo'].count('.') == 2
  images = verification.load_images(predictor, workdir)[0][:5]
  np.save(tmp_path / 'images.npy', images)
  subprocess.run(
    [
      *(sys.executable, '-c', _RUN_STABLEHLO, output / 'model.stablehlo'),
      *(tmp_path / 'images.npy', tmp_path / 'scores.npy'),
    ],
    cwd=tmp_path,
    check=True,
    timeout=120,
  )
  np.testing.assert_allclose(
    np.load(tmp_path / 'scores.npy'),
    predictor.predict(images, batch_size=8),
    atol=1e-5,
  )


def test_bfloat16_network_is_exported_in_float32(
  predictor, workdir, onnx_folder, tmp_path
):
  config = predictor.config.copy_and_resolve_references()
  config.model.dtype = 'bfloat16'
  changed = dataclasses.replace(predictor, config=config)
  rounding = dataclasses.replace(
    changed, eval_step=predictor_lib._make_eval_step(changed)
  )
  output = tmp_path / 'out'
  export.export(rounding, workdir=workdir, format='onnx', output=output)
  config = read_config(output)
  verified = config['verification']
  assert verified['max_difference'] < 1e-5
  assert 1e-5 < verified['max_difference_in_training_dtype'] < 0.1
  assert config['network']['training_dtype'] == 'bfloat16'
  assert config['network']['dtype'] == 'float32'
  card = (output / 'README.md').read_text()
  assert 'trained in bfloat16 and exported in float32' in card


@pytest.mark.parametrize(
  'value, message', [(0.5, 'differ by'), (np.nan, 'not finite')]
)
def test_failed_verification_leaves_no_folder(
  predictor, workdir, onnx_folder, tmp_path, monkeypatch, value, message
):
  from genre_flax.export import onnx_export

  def run(images):
    scores = np.full((len(images), len(predictor.genres)), value)
    return scores, scores

  monkeypatch.setattr(onnx_export, 'write', lambda *arguments: run)
  with pytest.raises(errors.UserError, match=message):
    export.export(
      predictor, workdir=workdir, format='onnx', output=tmp_path / 'out'
    )
  assert not list(tmp_path.iterdir())


def test_synthetic_posters_replace_a_missing_dataset(predictor, tmp_path):
  config = predictor.config.copy_and_resolve_references()
  config.dataset.data_dir = str(tmp_path / 'missing')
  images, source, _ = verification.load_images(
    dataclasses.replace(predictor, config=config), tmp_path
  )
  assert images.shape == (100, 32, 24, 3)
  assert source == 'synthetic posters'


@pytest.mark.parametrize('name', ['config.json', 'file'])
def test_other_folders_and_files_are_kept(predictor, workdir, tmp_path, name):
  path = tmp_path / name
  path.write_text('{"made_by": "me"}')
  output = tmp_path if name == 'config.json' else path
  with pytest.raises(errors.InputError, match='is not an export of this'):
    export.export(predictor, workdir=workdir, format='onnx', output=output)
  assert path.read_text() == '{"made_by": "me"}'


def test_earlier_export_is_replaced(predictor, workdir, onnx_folder, tmp_path):
  output = tmp_path / 'out'
  output.mkdir()
  (output / 'config.json').write_text('{"made_by": "genre_flax"}')
  (output / 'old').write_text('')
  export.export(predictor, workdir=workdir, format='onnx', output=output)
  assert {path.name for path in output.iterdir()} == {
    path.name for path in onnx_folder.iterdir()
  }
  assert [path.name for path in tmp_path.iterdir()] == ['out']


def test_missing_package_is_named(predictor, workdir, tmp_path, monkeypatch):
  monkeypatch.setitem(sys.modules, 'onnxruntime', None)
  name = 'genre_flax.export.onnx_export'
  monkeypatch.delitem(sys.modules, name, raising=False)
  monkeypatch.delattr(export_package, 'onnx_export', raising=False)
  message = r"onnxruntime.*install -e '.\[export\]'"
  with pytest.raises(errors.InputError, match=message):
    export.export(
      predictor, workdir=workdir, format='onnx', output=tmp_path / 'out'
    )
  assert not list(tmp_path.iterdir())
