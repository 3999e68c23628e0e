"""A network of a second, whose genres have names that no page should obey."""

from etils import epath
import pytest

from genre_flax.datasets.posters import build
from genre_flax.datasets.posters import sources
from genre_flax.datasets.posters import synthetic
from genre_flax.results import predict
from genre_flax.results import similar
from genre_flax.results.page import service as service_lib
from genre_flax.training import train
from tests.support import helpers

HOSTILE = ('<img src=x onerror=alert(1)>', '=1+1 {{value}} ${value}\x1b')
LIMITS = service_lib.Limits(max_bytes=200_000, max_files=24, max_seconds=60)


@pytest.fixture(scope='package')
def page_workdir(tmp_path_factory):
  folder = tmp_path_factory.mktemp('page')
  csv_file, images = synthetic.write_posters(folder, num_posters=60)
  build.build(
    sources.Source(epath.Path(csv_file), epath.Path(images)),
    data_dir=folder / 'data',
    genre_names=dict(zip(('Drama', 'Comedy'), HOSTILE, strict=True)),
  )
  config = helpers.tiny_config(folder / 'data', num_train_steps=4)
  workdir = epath.Path(folder / 'run <b>')
  train.train_and_evaluate(config, workdir)
  return workdir


@pytest.fixture(scope='package')
def page_predictor(page_workdir):
  return predict.restore(page_workdir)


@pytest.fixture(scope='package')
def service(page_workdir, page_predictor):
  embedder = similar.Embedder(page_predictor)
  return service_lib.Service(
    page_predictor,
    embedder=embedder,
    index=similar.open_index(
      page_predictor, embedder, workdir=page_workdir, data_dir=''
    ),
    limits=LIMITS,
  )


@pytest.fixture(scope='package')
def posters(tmp_path_factory):
  """Poster files, each of other pixels."""
  _, folder = synthetic.write_posters(
    tmp_path_factory.mktemp('posters'), num_posters=20, seed=3
  )
  return sorted(epath.Path(folder).iterdir())
