"""Common settings and fixtures: eight CPU devices and a synthetic dataset."""

import gc
import os
import tempfile

import jax
import numpy as np
from PIL import Image
import pytest

from genre_flax.datasets.posters import build
from genre_flax.datasets.posters import sources
from genre_flax.datasets.posters import storage
from genre_flax.inference import predictor as predictor_lib
from genre_flax.models import convnext
from genre_flax.models import efficientnet_lite
from genre_flax.models import vit
from genre_flax.runtime import platform
from genre_flax.training import train
from tests.support import helpers
from tests.support import programs
from tests.support import text_readers

NUM_DEVICES = 8

# Compilation takes most of the time. Compiled programs are shared by all
# processes, since many tests compile the same step. Fast compilation takes a
# fifth of the time.
if programs.COMPILED not in os.environ:
  _compiled = tempfile.TemporaryDirectory(prefix='genre_flax_tests_')
  os.environ[programs.COMPILED] = _compiled.name
# Tracing creates many long-lived objects; the default frequency of garbage
# collection would take a tenth of the time.
gc.set_threshold(200_000, 50, 100)
platform.configure(fast_compilation=True)
jax.config.update('jax_compilation_cache_dir', os.environ[programs.COMPILED])
jax.config.update('jax_persistent_cache_min_compile_time_secs', 0.0)
jax.config.update('jax_platforms', 'cpu')
jax.config.update('jax_num_cpu_devices', NUM_DEVICES)


def pytest_collection_modifyitems(items):
  """Puts the longest files first, so that the workers end together."""
  items.sort(key=lambda item: item.path.parent.name != 'training')


@pytest.fixture
def short_efficientnet(monkeypatch):
  """The first blocks of EfficientNet-Lite, which compile 5 times faster."""
  stages = (
    efficientnet_lite.Stage(1, 3, 1, 1, 16),
    efficientnet_lite.Stage(2, 3, 2, 6, 24),
    efficientnet_lite.Stage(2, 5, 2, 6, 24),
  )
  monkeypatch.setattr(efficientnet_lite, '_STAGES', stages)


@pytest.fixture
def short_networks(short_efficientnet, monkeypatch):
  """All deep networks with few narrow layers."""
  monkeypatch.setitem(vit.SIZES, 'S', vit.Size(32, 2, 2))
  monkeypatch.setitem(
    convnext.SIZES, 'tiny', convnext.Size((1, 1, 2, 1), (8, 16, 24, 32))
  )


@pytest.fixture(scope='session')
def data_dir(tmp_path_factory):
  """117 synthetic posters: 93 to train, 12 to validate, 12 to test."""
  folder = tmp_path_factory.mktemp('data')
  build.build_synthetic(data_dir=folder, num_posters=117)
  return folder


@pytest.fixture(scope='session')
def dataset(data_dir):
  return storage.open_dataset(data_dir)


@pytest.fixture(scope='session')
def trained_workdir(data_dir, tmp_path_factory):
  """A training of 30 steps; tests do not change it."""
  folder = tmp_path_factory.mktemp('trained')
  config = helpers.tiny_config(data_dir, num_train_steps=30)
  train.train(config, folder)
  return folder


@pytest.fixture(scope='session')
def trained_predictor(trained_workdir):
  return predictor_lib.restore(trained_workdir)


@pytest.fixture(scope='session')
def text_posters(tmp_path_factory):
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


@pytest.fixture(scope='session')
def text_data_dir(text_posters, tmp_path_factory):
  folder = tmp_path_factory.mktemp('data')
  build.build(
    sources.Source(text_posters / 'train.csv', text_posters),
    data_dir=folder,
    text_reader=text_readers.READER,
  )
  return folder


@pytest.fixture(scope='session')
def text_workdir(text_data_dir, tmp_path_factory):
  """A training of a network of images, frozen, and of the text branch."""
  folder = tmp_path_factory.mktemp('run')
  config = helpers.tiny_config(
    text_data_dir,
    **text_readers.OPTIONS,
    **{'model.use_text': True, 'trainable': 'text/.*', 'num_train_steps': 60},
  )
  train.train(config, folder)
  return folder
