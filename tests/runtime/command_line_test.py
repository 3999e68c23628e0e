import pytest

from tests.support import programs

IMPORTS = 'from absl import logging; from genre_flax.runtime import errors'


def run_main(body):
  return programs.run_code(
    'from genre_flax.runtime import command_line\n'
    f'def main(argv):\n  {body}\n'
    'command_line.run(main)\n'
  )


@pytest.mark.parametrize(
  ('error', 'status', 'message'),
  [
    ("errors.InputError('x')", 2, 'error: x'),
    ("errors.BusyError('x')", 73, 'error: x'),
    ('KeyboardInterrupt', 130, 'Stopped.'),
    ("ImportError('Please install gcsfs')", 2, "pip install -e '.[gcs]'"),
  ],
)
def test_errors_of_the_user_have_a_status_and_no_traceback(
  error, status, message
):
  done = run_main(f'{IMPORTS}; raise {error}')
  assert done.returncode == status
  assert message in done.stderr
  assert 'Traceback' not in done.stderr


def test_other_errors_keep_their_traceback():
  done = run_main('raise ImportError("no module named x")')
  assert done.returncode == 1
  assert 'Traceback' in done.stderr


def test_escape_sequences_in_messages_are_escaped():
  done = run_main(
    rf"{IMPORTS}; logging.warning('%s', 'a\x1b[2J');"
    r" raise errors.InputError('a\x1b[2J\nb\udcff')"
  )
  warning, *error = done.stderr.splitlines()[-3:]
  assert warning.endswith(r'WARNING: a\x1b[2J')
  assert error == [r'error: a\x1b[2J', r'b\xff']
