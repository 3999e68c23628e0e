"""Exports: what is in the folder, and when there is none."""

import dataclasses
import json
import subprocess
import sys

import numpy as np
import pytest

from genre_flax import export
from genre_flax.evaluation import calibration
from genre_flax.export import check
from genre_flax.export import description
from genre_flax.export import write
from genre_flax.inference import predictor as predictor_lib
from genre_flax.models import params
from genre_flax.runtime import errors


def test_the_folder_has_all_that_is_needed(onnx_folder, predictor):
  assert sorted(path.name for path in onnx_folder.iterdir()) == [
    'README.md',
    'config.json',
    'model.onnx',
    'model.safetensors',
    'predict.py',
  ]
  config = json.loads((onnx_folder / 'config.json').read_text())
  assert config['genres'] == list(predictor.genres)
  assert (config['image_height'], config['image_width']) == (32, 24)
  assert config['zooms'] == [1.0, 0.9]
  assert config['thresholds'].keys() == {'micro_f1', 'macro_f1', 'exact_match'}
  assert config['dataset_fingerprint'] == predictor.fingerprint
  assert config['check']['posters'] == 'posters of test'
  assert config['check']['num_posters'] == 12
  assert config['check']['same_top_three'] == 12
  assert config['check']['largest_difference'] < 1e-5


def test_the_onnx_file_says_what_config_json_does(onnx_folder):
  import onnx

  model = onnx.load(onnx_folder / 'model.onnx')
  found = {p.key: json.loads(p.value) for p in model.metadata_props}
  config = json.loads((onnx_folder / 'config.json').read_text())
  assert found == {k: v for k, v in config.items() if k != 'check'}
  shape = model.graph.input[0].type.tensor_type.shape
  assert shape.dim[0].dim_param == 'batch'


def test_the_numbers_are_those_that_evaluate(onnx_folder, predictor):
  from safetensors import numpy as safetensors

  found = safetensors.load_file(onnx_folder / 'model.safetensors')
  expected = params.flatten(predictor.variables, sep='/')
  assert found.keys() == expected.keys()
  assert 'params/head/kernel' in found
  for name, array in expected.items():
    np.testing.assert_array_equal(found[name], array)


# Of what this package and JAX need nothing may be imported.
_RUN_STABLEHLO = """
import sys
sys.modules['genre_flax'] = None
import jax
import numpy as np
model = jax.export.deserialize(bytearray(open(sys.argv[1], 'rb').read()))
scores, logits = model.call(np.load(sys.argv[2]))
np.save(sys.argv[3], scores)
"""


def test_stablehlo_runs_where_this_package_is_not(predictor, workdir, tmp_path):
  for package in ('flatbuffers', 'safetensors', 'huggingface_hub'):
    pytest.importorskip(package)
  output = tmp_path / 'out'
  write.export(predictor, workdir=workdir, form='stablehlo', output=output)
  versions = json.loads((output / 'stablehlo.json').read_text())
  assert versions['platforms'] == ['cpu', 'cuda', 'tpu']
  assert versions['calling_convention'] >= 9
  assert versions['stablehlo'].count('.') == 2
  images = check.choose_posters(predictor, workdir).images[:5]
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


def test_a_network_in_bfloat16_is_exported_in_float32(
  predictor, workdir, onnx_folder, tmp_path
):
  config = predictor.config.copy_and_resolve_references()
  config.model.dtype = 'bfloat16'
  changed = dataclasses.replace(predictor, config=config)
  rounding = dataclasses.replace(
    changed, eval_step=predictor_lib._make_eval_step(changed)
  )
  output = tmp_path / 'out'
  found = write.export(rounding, workdir=workdir, form='onnx', output=output)
  assert found['largest_difference'] < 1e-5
  assert 1e-5 < found['largest_difference_as_trained'] < 0.1
  described = json.loads((output / 'config.json').read_text())['network']
  assert described['trained_in'] == 'bfloat16'
  assert described['computes_in'] == 'float32'
  card = (output / 'README.md').read_text()
  assert 'trained in bfloat16, and computes in float32' in card


def test_other_scores_leave_no_folder(
  predictor, workdir, onnx_folder, tmp_path, monkeypatch
):
  wrong = dataclasses.replace(
    predictor.calibration, intercept=predictor.calibration.intercept + 0.01
  )
  monkeypatch.setattr(
    calibration.Calibration,
    'to_scores',
    lambda self, logits: 1 / (1 + np.exp(-(wrong.slope * logits + 0.01))),
  )
  with pytest.raises(errors.UserError, match='differ from our own by'):
    write.export(
      predictor, workdir=workdir, form='onnx', output=tmp_path / 'out'
    )
  assert not list(tmp_path.iterdir())


def test_without_the_data_set_drawn_posters_are_compared(predictor, tmp_path):
  config = predictor.config.copy_and_resolve_references()
  config.dataset.data_dir = str(tmp_path / 'gone')
  posters = check.choose_posters(
    dataclasses.replace(predictor, config=config), tmp_path
  )
  assert posters.images.shape == (100, 32, 24, 3)
  assert posters.origin == 'synthetic posters'


def test_a_folder_of_something_else_is_left_alone(predictor, workdir, tmp_path):
  (tmp_path / 'config.json').write_text('{"made_by": "me"}')
  with pytest.raises(errors.InputError, match='no export of this program'):
    write.export(predictor, workdir=workdir, form='onnx', output=tmp_path)
  assert (tmp_path / 'config.json').read_text() == '{"made_by": "me"}'
  file = tmp_path / 'file'
  file.write_text('mine')
  with pytest.raises(errors.InputError, match='no export of this program'):
    write.export(predictor, workdir=workdir, form='onnx', output=file)


def test_an_earlier_export_is_replaced(
  predictor, workdir, onnx_folder, tmp_path
):
  output = tmp_path / 'out'
  output.mkdir()
  (output / 'config.json').write_text(
    json.dumps({'made_by': description.PROGRAM})
  )
  (output / 'old').write_text('')
  write.export(predictor, workdir=workdir, form='onnx', output=output)
  assert {path.name for path in output.iterdir()} == {
    path.name for path in onnx_folder.iterdir()
  }
  assert [path.name for path in tmp_path.iterdir()] == ['out']


@pytest.mark.parametrize(
  'package, form', [('onnxruntime', 'onnx'), ('flatbuffers', 'stablehlo')]
)
def test_a_missing_package_is_told_with_what_to_type(
  predictor, workdir, tmp_path, monkeypatch, package, form
):
  monkeypatch.setitem(sys.modules, package, None)
  monkeypatch.delitem(
    sys.modules, 'genre_flax.export.stablehlo_file', raising=False
  )
  monkeypatch.delattr(export, 'stablehlo_file', raising=False)
  with pytest.raises(
    errors.InputError, match=f"{package}.*install -e '.\\[export\\]'"
  ):
    write.export(predictor, workdir=workdir, form=form, output=tmp_path / 'out')
  assert not list(tmp_path.iterdir())
