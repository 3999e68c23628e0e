"""`python -m genre_flax.export` in its own process."""

import json

import pytest

from genre_flax.training import train
from tests.support import helpers
from tests.support import programs

pytestmark = pytest.mark.slow

for package in ('onnx', 'onnxruntime', 'safetensors', 'huggingface_hub'):
  pytest.importorskip(
    package, reason=f'{package} is not installed (extra `export`, 43 MB)'
  )


@pytest.fixture(scope='module')
def workdir(data_dir, tmp_path_factory):
  """The run of a custom network."""
  folder = tmp_path_factory.mktemp('training')
  config = helpers.tiny_config(data_dir, num_train_steps=2)
  config.model.name = 'examples.wide_net:WideNet'
  config.model.options = {'width': 4}
  train.train(config, folder)
  return folder


def run(workdir, *arguments):
  return programs.run('export', f'--workdir={workdir}', *arguments)


def test_export_of_a_custom_network(workdir):
  result = run(workdir, '--format=onnx', '--step=latest', '--allow_custom_code')
  assert result.returncode == 0, result.stderr
  folder = workdir / 'export' / 'onnx_2'
  assert f'Wrote {folder}' in result.stdout
  assert 'Verified on 12 posters of test: the top-3 predictions of 12' in (
    result.stdout
  )
  config = json.loads((folder / 'config.json').read_text())
  assert config['step'] == 2
  assert 'was not evaluated' in (folder / 'README.md').read_text()


@pytest.mark.parametrize(
  'arguments, message',
  [
    (['--format=onnx'], '--allow_custom_code'),
    (['--format=onnx', 'more'], r"Unexpected arguments: ['more']"),
    (['--format=onnx', '--ort_web=x'], '--ort_web requires --format=web'),
    (
      ['--format=web', '--ort_web=missing.tgz', '--allow_custom_code'],
      'missing.tgz cannot be read',
    ),
  ],
)
def test_invalid_arguments_are_refused(workdir, arguments, message):
  before = sorted(workdir.rglob('export/*'))
  result = run(workdir, *arguments)
  assert result.returncode == 2
  assert message in result.stderr, result.stderr
  assert 'Traceback' not in result.stderr
  assert sorted(workdir.rglob('export/*')) == before
