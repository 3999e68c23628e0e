"""A small network, two of whose genres have hostile names, and its demo."""

import asyncio
import contextlib
import pathlib

from etils import epath
import pytest

from genre_flax.datasets.posters import build
from genre_flax.datasets.posters import sources
from genre_flax.datasets.posters import synthetic
from genre_flax.demo import service as service_lib
from genre_flax.inference import predictor as predictor_lib
from genre_flax.reports import split_report
from genre_flax.retrieval import embedder as embedder_lib
from genre_flax.retrieval import neighbors
from genre_flax.training import train
from tests.support import helpers
from tests.support import programs

HOSTILE = ('<img src=x onerror=alert(1)>', '=1+1 {{value}} ${value}\x1b')
MAX_BYTES, MAX_FILES = 200_000, 24


@pytest.fixture(scope='package')
def demo_workdir(tmp_path_factory):
  folder = tmp_path_factory.mktemp('demo')
  csv_file, images = synthetic.write_posters(folder, num_posters=60)
  build.build(
    sources.Source(epath.Path(csv_file), epath.Path(images)),
    data_dir=folder / 'data',
    genre_names=dict(zip(('Drama', 'Comedy'), HOSTILE, strict=True)),
  )
  config = helpers.tiny_config(folder / 'data', num_train_steps=4)
  workdir = epath.Path(folder / 'run <b>')
  train.train(config, workdir)
  split_report.evaluate_best(config, workdir)
  return workdir


def make_service(predictor, workdir, data_dir=''):
  """A service with an index that is stored in the workdir."""
  embedder = embedder_lib.Embedder(predictor)
  index = neighbors.open_index(
    predictor, embedder, workdir=workdir, data_dir=str(data_dir)
  )
  return service_lib.Service(
    predictor, max_bytes=MAX_BYTES, embedder=embedder, index=index
  )


@pytest.fixture(scope='package')
def service(demo_workdir):
  return make_service(predictor_lib.restore(demo_workdir), demo_workdir)


@pytest.fixture(scope='package')
def posters(tmp_path_factory):
  """20 image files."""
  _, folder = synthetic.write_posters(
    tmp_path_factory.mktemp('posters'), num_posters=20, seed=3
  )
  return sorted(epath.Path(folder).iterdir())


@pytest.fixture(scope='package')
def launch(service, demo_workdir, tmp_path_factory):
  """A context manager that serves the demo; yields its blocks."""
  pytest.importorskip('gradio', reason="needs: pip install -e '.[demo]'")
  from genre_flax.demo import app
  from genre_flax.reports import split_metrics

  metrics = split_metrics.read_any(
    demo_workdir, step=service.predictor.step, genres=service.predictor.genres
  )

  @contextlib.contextmanager
  def launch(*, auth=None, max_queue=32):
    folder = tmp_path_factory.mktemp('launch')
    upload_dir = pathlib.Path(folder / 'uploads')
    upload_dir.mkdir()
    with pytest.MonkeyPatch.context() as monkeypatch:
      monkeypatch.setenv('GRADIO_TEMP_DIR', str(upload_dir))

      port = programs.free_address().partition(':')[2]

      # In a running event loop, since Gradio creates loops of its own
      # otherwise, and does not close them.
      async def start():
        demo = app.build(
          app.Handlers(service, max_files=MAX_FILES, upload_dir=upload_dir),
          examples=folder,
          about=app.describe(service, name=demo_workdir.name, metrics=metrics),
        )
        app.launch(
          demo,
          upload_dir=upload_dir,
          max_queue=max_queue,
          server_name='127.0.0.1',
          server_port=int(port),
          auth=auth,
          max_file_size=MAX_BYTES,
        )
        return demo

      demo = asyncio.run(start())
      yield demo
      demo.close()

  return launch


@pytest.fixture(scope='package')
def address(launch):
  """The address of a demo without a login."""
  with launch() as demo:
    yield demo.local_url.rstrip('/')
