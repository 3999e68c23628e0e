"""A network of a second, whose genres have names that no page should obey."""

import contextlib
import re
import signal

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
from tests.support import binaries
from tests.support import helpers

# What the names of two genres may hold.
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
  train.train(config, workdir)
  split_report.evaluate_best(config, workdir)
  return workdir


@pytest.fixture(scope='package')
def page_predictor(page_workdir):
  return predictor_lib.restore(page_workdir)


@pytest.fixture(scope='package')
def service(page_workdir, page_predictor):
  embedder = embedder_lib.Embedder(page_predictor)
  return service_lib.Service(
    page_predictor,
    embedder=embedder,
    index=neighbors.open_index(
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


@contextlib.contextmanager
def served(workdir, *arguments, **variables):
  """Yields the process and the page's address."""
  pytest.importorskip('gradio', reason="needs: pip install -e '.[demo]'")
  with binaries.start(
    'page',
    f'--workdir={workdir}',
    '--port=0',
    f'--max_file_mb={LIMITS.max_bytes / 1e6}',
    f'--max_files={LIMITS.max_files}',
    *arguments,
    **variables,
  ) as process:
    said = []
    try:
      for line in process.stdout:
        said.append(line)
        ready = re.match(r'The page is at (http://\S+)', line)
        if ready:
          yield process, ready[1]
          break
      else:
        pytest.fail(''.join(said))
    finally:
      process.send_signal(signal.SIGTERM)
      process.communicate(timeout=30)


@pytest.fixture(scope='package')
def address(page_workdir):
  """Of a page that everybody may use."""
  with served(page_workdir) as (_, address):
    yield address


@pytest.fixture(scope='package')
def http(address):
  """Asks that page."""
  httpx = pytest.importorskip('httpx')
  with httpx.Client(base_url=address, timeout=30) as client:
    yield client
