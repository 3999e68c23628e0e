"""A trained network and its ONNX export, for all tests of this folder."""

from etils import epath
import pytest

from genre_flax.export import export
from genre_flax.inference import predictor as predictor_lib
from genre_flax.reports import split_report
from genre_flax.training import train
from tests.support import helpers


@pytest.fixture(scope='session')
def workdir(data_dir, tmp_path_factory):
  folder = epath.Path(tmp_path_factory.mktemp('training'))
  config = helpers.tiny_config(
    data_dir,
    num_train_steps=20,
    ema_decay=0.9,
    eval_crops=(1.0, 0.9),
    report=False,
  )
  train.train(config, folder)
  split_report.evaluate_best(config, folder)
  return folder


@pytest.fixture(scope='session')
def predictor(workdir):
  return predictor_lib.restore(workdir)


@pytest.fixture(scope='session')
def onnx_folder(predictor, workdir, tmp_path_factory):
  for package in ('onnx', 'onnxruntime', 'safetensors', 'huggingface_hub'):
    pytest.importorskip(
      package, reason=f'{package} is not installed (extra `export`, 43 MB)'
    )
  output = tmp_path_factory.mktemp('exported') / 'onnx'
  export.export(predictor, workdir=workdir, format='onnx', output=output)
  return output
