import subprocess
import sys

import pytest

from tests.support import paths

IMPORTS = 'from absl import logging; from genre_flax.runtime import errors'


def run_main(body):
  code = (
    'from genre_flax.runtime import command_line\n'
    f'def main(argv):\n  {body}\n'
    'command_line.run(main)\n'
  )
  return subprocess.run(
    [sys.executable, '-c', code],
    cwd=paths.ROOT,
    capture_output=True,
    text=True,
    check=False,
  )


def test_a_missing_package_for_cloud_storage_says_what_to_install():
  done = run_main('raise ImportError("Please install gcsfs to access it")')
  assert done.returncode == 2
  assert "pip install -e '.[gcs]'" in done.stderr
  assert 'Traceback' not in done.stderr


def test_another_import_error_keeps_its_traceback():
  done = run_main('raise ImportError("no module named x")')
  assert done.returncode == 1
  assert 'Traceback' in done.stderr


@pytest.mark.parametrize(
  ('error', 'status'),
  [
    ("errors.InputError('x')", 2),
    ("errors.BusyError('x')", 73),
    ("errors.StorageError('x')", 74),
    ("errors.DamageError('x')", 2),
    ('KeyboardInterrupt', 130),
  ],
)
def test_what_the_user_can_mend_has_a_status_and_no_traceback(error, status):
  done = run_main(f'{IMPORTS}; raise {error}')
  assert done.returncode == status
  assert 'Traceback' not in done.stderr


def test_what_a_terminal_would_obey_is_escaped():
  done = run_main(rf"{IMPORTS}; raise errors.InputError('a\x1b[2J\nb\udcff')")
  assert done.stderr.splitlines()[-2:] == [r'error: a\x1b[2J', r'b\xff']
  done = run_main(rf"{IMPORTS}; logging.warning('%s', 'a\x1b[2J')")
  assert r'WARNING: a\x1b[2J' in done.stderr
  assert '\x1b' not in done.stderr
