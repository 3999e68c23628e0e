"""The program: its flags, its start and its end."""

import signal
import socket

import pytest

from genre_flax.demo import __main__ as program
from genre_flax.runtime import errors
from tests.support import programs


def test_password_of_a_file_or_the_environment(tmp_path, monkeypatch):
  path = tmp_path / 'password'
  path.write_text('correct horse\nsecond line\n')
  assert program.read_login('ann', str(path)) == ('ann', 'correct horse')
  monkeypatch.setenv(program.PASSWORD_VARIABLE, 'battery staple')
  assert program.read_login('ann', '') == ('ann', 'battery staple')
  assert program.read_login('ann', str(path)) == ('ann', 'correct horse')
  assert program.read_login('', '') is None


@pytest.mark.parametrize(
  'user, content, message',
  [
    ('', b'correct horse', '--password_file needs --user'),
    ('ann', b'short', 'has 5 characters, expected at least 8'),
    ('ann', b'\nlater', 'has 0 characters'),
    ('ann', b'x' * 5000, 'at most 4,096'),
    ('ann', b'\xff\xfe', '--password_file='),
    ('ann', None, 'no such file'),
  ],
)
def test_unusable_passwords(tmp_path, user, content, message):
  path = tmp_path / 'password'
  if content is not None:
    path.write_bytes(content)
  with pytest.raises(errors.InputError, match=message):
    program.read_login(user, str(path))


@pytest.mark.slow
@pytest.mark.parametrize('number', [signal.SIGINT, signal.SIGTERM])
def test_signals_end_it_and_delete_uploads(demo_workdir, tmp_path, number):
  pytest.importorskip('gradio', reason="needs: pip install -e '.[demo]'")
  port = programs.free_address().partition(':')[2]
  # The index is stored in the workdir, so no dataset is needed.
  process = programs.start(
    'demo',
    f'--workdir={demo_workdir}',
    f'--port={port}',
    f'--data_dir={tmp_path}',
    TMPDIR=tmp_path,
  )
  with process:
    line = next(line for line in process.stdout if line.startswith('The demo'))
    [folder] = tmp_path.glob('genre_flax_demo_*')
    assert folder.stat().st_mode & 0o077 == 0
    with socket.create_connection(('127.0.0.1', int(port))):
      process.send_signal(number)
    rest, _ = process.communicate(timeout=30)
  assert process.returncode == 0, rest
  assert line == f'The demo is at http://127.0.0.1:{port}/\n'
  assert 'Traceback' not in rest
  assert list(tmp_path.glob('genre_flax_demo_*')) == []


@pytest.mark.slow
def test_a_port_in_use(demo_workdir):
  pytest.importorskip('gradio', reason="needs: pip install -e '.[demo]'")
  with socket.create_server(('127.0.0.1', 0)) as used:
    port = used.getsockname()[1]
    result = programs.run('demo', f'--workdir={demo_workdir}', f'--port={port}')
  assert result.returncode == errors.BusyError.exit_status
  assert f'Cannot listen on port {port} of 127.0.0.1' in result.stderr
  assert 'Traceback' not in result.stderr
