import pytest

from tests.support import programs

IMPORTS = 'from absl import logging; from genre_flax.runtime import errors'


def run_main(body, **variables):
  return programs.run_code(
    'from genre_flax.runtime import command_line\n'
    f'def main(argv):\n  {body}\n'
    'command_line.run(main)\n',
    **variables,
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


START = (
  'platform.initialize_distributed(detect=True); import jax; jax.devices()'
)


@pytest.mark.parametrize(
  ('body', 'variables', 'message'),
  [
    ('import jax; jax.devices()', {'JAX_PLATFORMS': 'no'}, 'JAX_PLATFORMS=no'),
    ('import jax', {'JAX_ENABLE_X64': '2'}, 'JAX_ENABLE_X64=2'),
    (START, {}, 'are incomplete or invalid: coordinator_address'),
    (START, {'SLURM_JOB_ID': '1', 'SLURM_NTASKS': '2'}, 'incomplete or inv'),
    (START, {'JAX_NUM_PROCESSES': '2'}, 'JAX_PROCESS_ID not set'),
    (
      START,
      {'JAX_NUM_PROCESSES': 'two', 'JAX_PROCESS_ID': '0'}
      | {'JAX_COORDINATOR_ADDRESS': 'localhost:1'},
      'invalid: invalid literal',
    ),
  ],
)
def test_faults_of_the_environment_are_one_line(body, variables, message):
  body = f'from genre_flax.runtime import platform; {body}'
  done = run_main(body, **variables)
  assert done.returncode == 2
  assert message in done.stderr.splitlines()[-1]
  assert 'Traceback' not in done.stderr


def test_help_is_no_error():
  done = programs.run('main', '--help')
  assert done.returncode == 0
  text = done.stdout
  assert text.startswith('Trains') and text.index('--workdir:') < 4000
  assert 'absl' not in text


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
