"""Serves the page until it is stopped."""

import asyncio
import contextlib
import errno
import importlib.util
import os
import signal
import socket
import sys
import tempfile
from typing import Any

from absl import logging
from etils import epath

from genre_flax.demo import examples as examples_lib
from genre_flax.demo import password as password_lib
from genre_flax.demo import service as service_lib
from genre_flax.demo import uploads as uploads_lib
from genre_flax.inference import predictor as predictor_lib
from genre_flax.reports import split_metrics
from genre_flax.retrieval import embedder as embedder_lib
from genre_flax.retrieval import neighbors
from genre_flax.runtime import errors

# Read by Gradio and what it imports, when it is imported.
_ENVIRONMENT = {
  'GRADIO_ANALYTICS_ENABLED': 'False',
  'HF_HUB_DISABLE_TELEMETRY': '1',
  'HF_HUB_OFFLINE': '1',
}
_SWEEP_SECONDS = 60
_MAX_CONNECTIONS = 512


def serve(
  workdir: epath.Path,
  *,
  step: str,
  data_dir: str,
  host: str,
  port: int,
  user: str,
  password_file: str,
  limits: service_lib.Limits,
  max_queue: int,
  allow_custom_code: bool,
) -> None:
  """Serves a page that names the genres of posters, until it is stopped.

  Args:
    workdir: of the run.
    step: of the checkpoint, as `predictor_lib.restore` takes it.
    data_dir: of the data set, for similar posters; '' for that of the training.
    host: name or address to listen on.
    port: to listen on; 0 for any that is free.
    user: who may use it; '' for everybody.
    password_file: see `password.read`.
    limits: of a request.
    max_queue: requests that wait at most; others are told to come again.
    allow_custom_code: as in `predictor_lib.restore`.

  Raises:
    InputError: Gradio is missing, there is no such checkpoint or address, or
      the password cannot be used.
    BusyError: another program listens on the port.
  """
  # So that what was uploaded is deleted then, too.
  signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
  require_gradio()
  password = password_lib.read(user, password_file)
  # First of all: it takes no time, and the network some.
  with contextlib.closing(listen(host, port)) as listening:
    if password is None and not _is_local(listening):
      logging.warning(
        'Everybody who reaches %s can use the page; --user and'
        ' --password_file ask for a password.',
        address(listening),
      )
    predictor = predictor_lib.restore(
      workdir, step=step, allow_custom_code=allow_custom_code
    )
    with tempfile.TemporaryDirectory(prefix='genre_flax_page_') as folder:
      application = make_application(
        predictor,
        workdir,
        folder=folder,
        data_dir=data_dir,
        login=(user, password) if password is not None else None,
        limits=limits,
        max_queue=max_queue,
      )
      run_server(application, listening)


def require_gradio() -> None:
  """Raises an InputError where Gradio is not installed."""
  if importlib.util.find_spec('gradio') is None:
    raise errors.InputError(
      "The page needs Gradio; install it with `pip install -e '.[demo]'`."
    )


def make_application(
  predictor: predictor_lib.Predictor,
  workdir: epath.Path,
  *,
  folder: str,
  data_dir: str,
  login: tuple[str, str] | None,
  limits: service_lib.Limits,
  max_queue: int,
) -> Any:
  """The page as an ASGI application.

  Args:
    predictor: of `predictor_lib.restore`.
    workdir: of the run.
    folder: for files that are uploaded, of this process alone.
    data_dir: see `serve`.
    login: name and password, or None.
    limits: of a request.
    max_queue: see `serve`.
  """
  os.environ.update(_ENVIRONMENT)
  uploads_folder = os.path.join(os.path.realpath(folder), 'uploads')
  os.mkdir(uploads_folder)
  os.environ['GRADIO_TEMP_DIR'] = uploads_folder
  # Only now: it reads the environment.
  from genre_flax.demo import actions
  from genre_flax.demo import app
  from genre_flax.demo import guard

  uploads = uploads_lib.Uploads(uploads_folder)
  embedder, index, why_none = _open_index(predictor, workdir, data_dir)
  service = service_lib.Service(
    predictor, embedder=embedder, index=index, limits=limits
  )
  blocks = app.build(
    actions.Page(
      service, uploads, examples_lib.draw(epath.Path(folder) / 'examples')
    ),
    app.Words(
      name=workdir.resolve().name,
      metrics=split_metrics.read_any(
        workdir, step=predictor.step, genres=predictor.genres
      ),
      why_none_similar=why_none,
    ),
    max_queue=max_queue,
  )
  return guard.Guard(
    _mount(blocks, uploads=uploads, login=login),
    uploads=uploads,
    max_file_bytes=limits.max_bytes,
  )


def _mount(blocks, *, uploads, login):
  """Gradio's application, before what guards it."""
  import fastapi
  import gradio as gr

  from genre_flax.demo import app
  from genre_flax.demo import fragments

  # Not gr.Blocks.launch: that calls itself over the network, tries other ports,
  # and may open a tunnel.
  return gr.mount_gradio_app(
    fastapi.FastAPI(
      docs_url=None,
      redoc_url=None,
      openapi_url=None,
      lifespan=lambda _: _deleting(uploads),
    ),
    blocks,
    path='/',
    footer_links=[],
    run_history=False,
    allowed_paths=[],
    blocked_paths=[],
    auth=password_lib.make_check(*login) if login else None,
    show_error=False,
    enable_monitoring=False,
    mcp_server=False,
    ssr_mode=False,
    pwa=False,
    theme=app.theme(),
    css=fragments.read_template('page.css'),
  )


def _open_index(predictor, workdir, data_dir):
  """(embedder, index, why there is none)."""
  why = 'this network gives nothing to compare posters by.'
  try:
    embedder = embedder_lib.Embedder(predictor)
    why = 'the data set that they are in is not here.'
    index = neighbors.open_index(
      predictor, embedder, workdir=workdir, data_dir=data_dir
    )
  except errors.InputError as e:
    logging.warning('The page shows no similar posters: %s', e)
    return None, None, why
  return embedder, index, ''


@contextlib.asynccontextmanager
async def _deleting(uploads):
  """Deletes old files while the page is served."""

  async def sweep():
    while True:
      await asyncio.sleep(_SWEEP_SECONDS)
      await asyncio.to_thread(uploads.delete_old)

  task = asyncio.create_task(sweep())
  try:
    yield
  finally:
    task.cancel()


def listen(host: str, port: int) -> socket.socket:
  """A socket that listens.

  Raises:
    InputError: there is no such address on this machine, or the port is not to
      be had.
    BusyError: another program listens there.
  """
  try:
    family, kind, _, _, place = socket.getaddrinfo(
      host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
    )[0]
  except OSError as e:
    raise errors.InputError(f'--host={host} is no address: {e}.') from e
  listening = socket.socket(family, kind)
  try:
    listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    listening.bind(place)
    listening.listen(_MAX_CONNECTIONS)
  except OSError as e:
    listening.close()
    if e.errno == errno.EADDRINUSE:
      raise errors.BusyError(
        f'Another program listens on port {port} of {host}. Stop it, or choose'
        f' another port, as --port={port + 1}.'
      ) from e
    raise errors.InputError(
      f'--host={host} --port={port} cannot be listened on: {e.strerror}.'
    ) from e
  return listening


def address(listening: socket.socket) -> str:
  """What to open in a browser."""
  host, port = listening.getsockname()[:2]
  if host in ('0.0.0.0', '::'):
    host = socket.gethostname()
  return f'http://[{host}]:{port}' if ':' in host else f'http://{host}:{port}'


def _is_local(listening: socket.socket) -> bool:
  host = listening.getsockname()[0]
  return host == '::1' or host.startswith('127.')


def run_server(application: Any, listening: socket.socket) -> None:
  """Serves an ASGI application, and says where, until SIGINT or SIGTERM."""
  import uvicorn

  class Server(uvicorn.Server):
    async def startup(self, sockets=None):
      await super().startup(sockets=sockets)
      if self.started:
        print(f'The page is at {address(listening)}', flush=True)

  server = Server(
    uvicorn.Config(
      application,
      log_config=None,
      access_log=False,
      server_header=False,
      limit_concurrency=_MAX_CONNECTIONS,
      timeout_graceful_shutdown=3,
      ws='none',
    )
  )
  server.run(sockets=[listening])
  if server.started:
    # It ends by a signal alone. SIGINT it hands on to asyncio, which keeps it
    # to itself where nothing is left to wait for.
    raise KeyboardInterrupt
