r"""Serves the demo: a web page that shows the genres of a poster.

python -m genre_flax.demo
python -m genre_flax.demo --model=WORKDIR
python -m genre_flax.demo --model=WORKDIR --host=0.0.0.0 --user=NAME \
  --password_file=FILE

It listens on localhost by default, and needs `pip install -e '.[demo]'`.
"""

import contextlib
import importlib.util
import os
import pathlib
import signal
import tempfile

from absl import flags
from absl import logging
from etils import epath

from genre_flax.runtime import command_line
from genre_flax.runtime import errors
from genre_flax.runtime import platform
from genre_flax.runtime import regular_files
from genre_flax.runtime import shared_flags

PASSWORD_VARIABLE = 'GENRE_FLAX_DEMO_PASSWORD'
_MIN_PASSWORD_LENGTH = 8

_MODEL = shared_flags.model()
_STEP = shared_flags.step()
_DATA_DIR = shared_flags.data_dir()
_HOST = flags.DEFINE_string(
  'host', '127.0.0.1', 'Address to listen on; 0.0.0.0 for all interfaces.'
)
_PORT = flags.DEFINE_integer(
  'port', 7860, 'Port to listen on.', lower_bound=1, upper_bound=65535
)
_USER = flags.DEFINE_string('user', '', 'User name; default: no login.')
_PASSWORD_FILE = flags.DEFINE_string(
  'password_file',
  '',
  'File whose first line is the password; default: the environment variable'
  f' {PASSWORD_VARIABLE}.',
)
_MAX_FILE_MB = flags.DEFINE_float(
  'max_file_mb', 20.0, 'Largest file, in megabytes.', lower_bound=0.001
)
_MAX_FILES = flags.DEFINE_integer(
  'max_files', 64, 'Largest number of files per request.', lower_bound=1
)
_MAX_QUEUE = flags.DEFINE_integer(
  'max_queue', 32, 'Largest number of waiting requests.', lower_bound=1
)
_NO_TEXT = shared_flags.no_text()
_TEXT_READER = shared_flags.text_reader()
_ALLOW_CUSTOM_CODE = shared_flags.allow_custom_code()


def main(argv: list[str]) -> None:
  command_line.refuse_arguments(argv)
  if importlib.util.find_spec('gradio') is None:
    raise errors.InputError(
      "The demo needs Gradio; install it with `pip install -e '.[demo]'`."
    )
  auth = read_login(_USER.value, os.path.expanduser(_PASSWORD_FILE.value))
  if auth is None and _HOST.value not in ('127.0.0.1', 'localhost'):
    logging.warning('Without a login; --user and --password_file set one.')
  platform.configure()
  # As for Ctrl-C, so that the folder of uploaded files is deleted.
  signal.signal(signal.SIGTERM, signal.default_int_handler)
  # Only its owner can read the folder.
  with tempfile.TemporaryDirectory(prefix='genre_flax_demo_') as folder:
    _serve(pathlib.Path(folder), auth)


def read_login(user: str, password_file: str) -> tuple[str, str] | None:
  """The user name and the password, or None for no login.

  Args:
    user: the user name, or ''.
    password_file: file whose first line is the password; '' for
      PASSWORD_VARIABLE.

  Raises:
    InputError: one of the two is missing, or the password is too short.
  """
  if not user:
    if password_file:
      raise errors.InputError('--password_file needs --user.')
    return None
  password = os.environ.get(PASSWORD_VARIABLE, '')
  if password_file:
    try:
      content = regular_files.read(epath.Path(password_file), max_bytes=4096)
      password = content.decode().partition('\n')[0].rstrip('\r')
    except (regular_files.NotReadableError, UnicodeDecodeError) as e:
      raise errors.InputError(f'--password_file={password_file}: {e}.') from e
  if len(password) < _MIN_PASSWORD_LENGTH:
    raise errors.InputError(
      f'The password has {len(password)} characters, expected at least'
      f' {_MIN_PASSWORD_LENGTH}; set --password_file or {PASSWORD_VARIABLE}.'
    )
  return user, password


def _serve(folder: pathlib.Path, auth: tuple[str, str] | None) -> None:
  """Loads the network, and serves the demo until it is interrupted."""
  upload_dir = folder / 'uploads'
  os.environ['GRADIO_ANALYTICS_ENABLED'] = 'False'
  os.environ['GRADIO_TEMP_DIR'] = str(upload_dir)
  # Imported here: jax after platform.configure, Gradio after its variables.
  from genre_flax.demo import app
  from genre_flax.demo import service as service_lib
  from genre_flax.inference import image_inputs
  from genre_flax.inference import predictor as predictor_lib
  from genre_flax.ops.cpu import onednn
  from genre_flax.reports import split_metrics

  platform.use_compilation_cache(on_cpu=not onednn.is_available())
  workdir = epath.Path(os.path.expanduser(_MODEL.value))
  [predictor] = image_inputs.with_text_reader(
    [
      predictor_lib.restore(
        workdir, step=_STEP.value, allow_custom_code=_ALLOW_CUSTOM_CODE.value
      )
    ],
    use_text=False if _NO_TEXT.value else None,
    text_reader=_TEXT_READER.value,
  )
  max_bytes = int(_MAX_FILE_MB.value * 1e6)
  embedder, index = _open_index(predictor, workdir)
  service = service_lib.Service(
    predictor, max_bytes=max_bytes, embedder=embedder, index=index
  )
  metrics = split_metrics.read_any(
    workdir, step=predictor.step, genres=predictor.genres
  )
  about = app.describe(service, name=workdir.resolve().name, metrics=metrics)
  demo = app.build(
    app.Handlers(service, max_files=_MAX_FILES.value, upload_dir=upload_dir),
    examples=folder,
    about=about,
  )
  app.launch(
    demo,
    upload_dir=upload_dir,
    max_queue=_MAX_QUEUE.value,
    server_name=_HOST.value,
    server_port=_PORT.value,
    auth=auth,
    max_file_size=max_bytes,
  )
  with contextlib.suppress(KeyboardInterrupt):
    print(f'The demo is at {demo.local_url}', flush=True)
    demo.block_thread()


def _open_index(predictor, workdir):
  """The embedder and the index of nearest posters, or None and None."""
  from genre_flax.retrieval import embedder as embedder_lib
  from genre_flax.retrieval import neighbors

  data_dir = os.path.expanduser(_DATA_DIR.value or '')
  try:
    embedder = embedder_lib.Embedder(predictor)
    index = neighbors.open_index(
      predictor, embedder, workdir=workdir, data_dir=data_dir
    )
  except errors.InputError as e:
    logging.warning('The demo shows no nearest posters: %s', e)
    return None, None
  return embedder, index


if __name__ == '__main__':
  platform.restart_with_huge_pages()
  command_line.run(main)
