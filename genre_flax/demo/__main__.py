r"""Serves a page to drop posters on, which shows their genres.

python -m genre_flax.demo --workdir=WORKDIR
python -m genre_flax.demo --workdir=WORKDIR --host=0.0.0.0 --user=NAME \
  --password_file=FILE

The page is for this machine alone, unless --host says otherwise, and loads
nothing from anywhere. It needs `pip install -e '.[demo]'`.
"""

import os

from absl import flags
from etils import epath

from genre_flax.runtime import command_line
from genre_flax.runtime import files
from genre_flax.runtime import platform

_WORKDIR = flags.DEFINE_string(
  'workdir', None, 'Folder of the training run.', required=True
)
_STEP = flags.DEFINE_string(
  'step', 'best', 'Checkpoint to use: best, latest, or the number of a step.'
)
_DATA_DIR = flags.DEFINE_string(
  'data_dir',
  None,
  'Where the data set is that the network was trained on, should it have moved;'
  ' similar posters are taken from it once, and kept in the workdir.',
)
_HOST = flags.DEFINE_string(
  'host',
  '127.0.0.1',
  'Address to listen on; 0.0.0.0 for all of this machine.',
)
_PORT = flags.DEFINE_integer(
  'port',
  7860,
  'Port to listen on; 0 for any that is free.',
  lower_bound=0,
  upper_bound=65535,
)
_USER = flags.DEFINE_string(
  'user', '', 'Name to log in with; default: everybody may use the page.'
)
_PASSWORD_FILE = flags.DEFINE_string(
  'password_file',
  '',
  'File whose first line is the password; default: the environment variable'
  ' GENRE_FLAX_PAGE_PASSWORD.',
)
_MAX_FILE_MB = flags.DEFINE_float(
  'max_file_mb', 20.0, 'Most megabytes of a file.', lower_bound=0.001
)
_MAX_FILES = flags.DEFINE_integer(
  'max_files', 64, 'Most files of a request.', lower_bound=1
)
_MAX_SECONDS = flags.DEFINE_float(
  'max_seconds',
  60.0,
  'Most seconds that a request may take; posters that are not looked at by'
  ' then are told.',
  lower_bound=0.0,
)
_MAX_QUEUE = flags.DEFINE_integer(
  'max_queue',
  32,
  'Most requests that wait; others are told to come again.',
  lower_bound=1,
)
_ALLOW_CUSTOM_CODE = flags.DEFINE_bool(
  'allow_custom_code',
  False,
  'Load a network that is not part of genre_flax, as in genre_flax.top3.',
)


def main(argv: list[str]) -> int:
  command_line.refuse_arguments(argv)
  platform.configure()

  # After the platform is set: these import jax.
  from genre_flax.demo import run
  from genre_flax.demo import service
  from genre_flax.ops.cpu import onednn

  platform.use_compilation_cache(
    files.cache_dir() / 'compiled',
    on_cpu=not onednn.is_available(),
  )
  run.serve(
    epath.Path(os.path.expanduser(_WORKDIR.value)),
    step=_STEP.value,
    data_dir=os.path.expanduser(_DATA_DIR.value or ''),
    host=_HOST.value,
    port=_PORT.value,
    user=_USER.value,
    password_file=os.path.expanduser(_PASSWORD_FILE.value),
    limits=service.Limits(
      max_bytes=int(_MAX_FILE_MB.value * 1e6),
      max_files=_MAX_FILES.value,
      max_seconds=_MAX_SECONDS.value,
    ),
    max_queue=_MAX_QUEUE.value,
    allow_custom_code=_ALLOW_CUSTOM_CODE.value,
  )
  return 0


if __name__ == '__main__':
  platform.restart_with_huge_pages()
  command_line.run(main)
