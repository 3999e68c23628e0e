"""The binary `export`, run as a user does."""

import json
import shutil

import pytest

from configs import default
from genre_flax.training import train
from tests.support import binaries
from tests.support import helpers

pytestmark = pytest.mark.slow


@pytest.fixture(scope='module')
def workdir(data_dir, tmp_path_factory):
  folder = tmp_path_factory.mktemp('to_export')
  train.train(helpers.tiny_config(data_dir, num_train_steps=2), folder)
  return folder


@pytest.fixture(scope='module')
def custom_workdir(data_dir, tmp_path_factory):
  """The run of a network that is no part of the package."""
  folder = tmp_path_factory.mktemp('custom')
  config = helpers.tiny_config(data_dir, num_train_steps=2)
  config.model.name = 'examples.wide_net:WideNet'
  config.model.options = {'width': 4}
  train.train(config, folder)
  return folder


@pytest.fixture
def extra():
  for package in ('onnx', 'onnxruntime', 'safetensors', 'huggingface_hub'):
    pytest.importorskip(
      package, reason=f'{package} is not installed (extra `export`, 43 MB)'
    )


def run(workdir, *arguments):
  return binaries.run('export', f'--workdir={workdir}', *arguments)


def test_exports_into_the_workdir_and_says_what_came_out(workdir, extra):
  result = run(workdir, '--format=onnx', '--step=latest')
  assert result.returncode == 0, result.stderr
  folder = workdir / 'export' / 'onnx_2'
  assert f'Wrote {folder}' in result.stdout
  assert 'Of 12 posters of test, 12 have the same three' in result.stdout
  config = json.loads((folder / 'config.json').read_text())
  assert config['step'] == 2
  assert 'was not evaluated' in (folder / 'README.md').read_text()


def test_code_of_ones_own_is_run_where_it_is_allowed(
  custom_workdir, extra, tmp_path
):
  refused = run(custom_workdir, '--format=onnx')
  assert refused.returncode == 2
  assert '--allow_custom_code' in refused.stderr
  for form in ('onnx', 'stablehlo'):
    result = run(
      custom_workdir,
      f'--format={form}',
      '--allow_custom_code',
      f'--output={tmp_path / form}',
    )
    assert result.returncode == 0, result.stderr


@pytest.mark.parametrize(
  'arguments, message',
  [
    (['--format=onnx', 'more'], r"Unexpected arguments: ['more']"),
    (['--format=keras'], 'onnx|stablehlo|timm|web'),
    (['--format=onnx', '--ort_web=x'], '--ort_web is for --format=web alone'),
    (['--format=onnx', '--step=7'], '--step=7'),
    (['--format=web', '--ort_web=nothing.tgz'], 'nothing.tgz cannot be read'),
    (['--format=onnx', '--push=name'], 'expected USER/NAME'),
  ],
)
def test_wrong_flags_are_refused_in_one_message(
  workdir, extra, arguments, message
):
  before = sorted(workdir.rglob('export/*'))
  result = run(workdir, *arguments)
  assert result.returncode in (1, 2)
  assert message in result.stderr, result.stderr
  assert 'Traceback' not in result.stderr
  assert sorted(workdir.rglob('export/*')) == before


def test_a_folder_of_something_else_is_left_alone(workdir, extra, tmp_path):
  shutil.copy(default.__file__, tmp_path / 'mine.py')
  result = run(workdir, '--format=onnx', f'--output={tmp_path}')
  assert result.returncode == 2
  assert 'no export of this program' in result.stderr
  assert [path.name for path in tmp_path.iterdir()] == ['mine.py']
