import subprocess
import sys

from tests.support import paths


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
