"""Tests of the code that is stored with a run."""

import importlib
import subprocess
import sys

import pytest

from genre_flax.inference import predictor as predictor_lib
from genre_flax.runtime import machine
from genre_flax.training import run_code
from genre_flax.training import run_history
from genre_flax.training import setup as setup_lib
from genre_flax.training import train
from tests.support import helpers

NET = """
import flax.linen as nn
import own_layers
class Net(nn.Module):
  num_genres: int
  dtype: object
  axis_name: object
  width: int = 4
  mixes_examples = False
  @nn.compact
  def __call__(self, images, *, train):
    x = own_layers.activation(nn.Dense(self.width)(images.mean(axis=(1, 2))))
    return nn.Dense(self.num_genres, name='head')(x)
"""
LAYERS = 'from flax.linen import relu as activation\n'


@pytest.fixture
def code(tmp_path, monkeypatch):
  """A function that edits a module in the folder of the own modules."""
  folder = tmp_path / 'mine'
  folder.mkdir()
  monkeypatch.syspath_prepend(str(folder))
  monkeypatch.setattr(sys, 'dont_write_bytecode', True)

  def write(name, source):
    (folder / f'{name}.py').write_text(source)
    for name in ('own_net', 'own_layers'):
      sys.modules.pop(name, None)
    importlib.invalidate_caches()

  write('own_layers', LAYERS)
  write('own_net', NET)
  yield write
  for name in ('own_net', 'own_layers'):
    sys.modules.pop(name, None)


@pytest.fixture
def config(data_dir):
  config = helpers.tiny_config(data_dir, num_train_steps=2)
  config.model.name = 'own_net:Net'
  return config


def test_edited_code_warns_with_its_files(config, code, tmp_path, caplog):
  workdir = tmp_path / 'run'
  train.train(config, workdir)
  copies = workdir / 'code' / '0'
  assert (copies / 'own_net.py').read_text() == NET
  assert (copies / 'own_layers.py').read_text() == LAYERS

  def evaluate():
    caplog.clear()
    predictor_lib.restore(workdir, allow_custom_code=True)
    return caplog.text

  assert 'Code has changed' not in evaluate()
  code('own_layers', LAYERS.replace('relu', 'gelu'))
  text = evaluate()
  assert 'Code has changed' in text
  assert str(tmp_path / 'mine' / 'own_layers.py') in text
  assert 'own_net.py' not in text
  code('own_layers', LAYERS)
  code('own_net', NET.replace('width: int = 4', 'width: int = 5'))
  # The warning precedes the error about the shapes.
  with pytest.raises(predictor_lib.errors.InputError, match='is undamaged'):
    evaluate()
  assert 'own_net.py' in caplog.text
  changed = 'network attribute width: 4 in the training, 5 now'
  assert changed in caplog.text

  caplog.clear()
  code('own_net', f'{NET}# A comment.\n')
  config.log_every = 1
  assert train.train(config, workdir).step == 2
  assert 'own_net.py' in caplog.text
  assert (workdir / 'code' / '2' / 'own_net.py').read_text().endswith('t.\n')
  assert (copies / 'own_net.py').read_text() == NET


def test_installed_modules_and_built_in_networks_have_no_files(
  data_dir, tmp_path
):
  config = helpers.tiny_config(data_dir)
  config.optimizer.name = 'optax:scale_by_lion'
  _, setup = setup_lib.set_up(config, tmp_path)
  assert run_code.describe(config, setup.model) == {
    'modules': {},
    'network': {'features': '(8, 16)', 'dropout_rate': '0.1'},
  }


def git(folder, *arguments):
  identity = ('-c', 'user.name=x', '-c', 'user.email=x@example.org')
  return subprocess.run(
    ['git', *identity, '-C', str(folder), *arguments],
    check=True,
    capture_output=True,
    text=True,
  ).stdout.strip()


def test_commit_of_a_folder(tmp_path):
  assert machine.commit(tmp_path) is None
  git(tmp_path, 'init')
  (tmp_path / 'file').write_text('1')
  git(tmp_path, 'add', 'file')
  git(tmp_path, 'commit', '-m', 'message')
  head = git(tmp_path, 'rev-parse', 'HEAD')
  assert machine.commit(tmp_path) == head
  (tmp_path / 'file').write_text('2')
  assert machine.commit(tmp_path) == f'{head}-dirty'
  # As of a package that is installed below a repository.
  (tmp_path / 'installed').mkdir()
  (tmp_path / 'installed' / 'file').write_text('1')
  assert machine.commit(tmp_path / 'installed') is None


def test_the_history_names_the_code(trained_workdir, monkeypatch, tmp_path):
  (start,) = run_history.read(trained_workdir)
  assert start['commit'] == machine.commit(tmp_path.cwd() / 'genre_flax')
  assert start['working_folder'] == str(tmp_path.cwd())
