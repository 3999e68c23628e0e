"""How the page starts, who may use it, and how it ends."""

import importlib.util
import re
import signal
import socket

from etils import epath
import pytest

from genre_flax.demo import fragments
from genre_flax.demo import run
from genre_flax.runtime import errors
from tests.demo import conftest
from tests.support import binaries
from tests.support import browser

needs_gradio = pytest.mark.skipif(
  importlib.util.find_spec('gradio') is None,
  reason="needs: pip install -e '.[demo]'",
)
USER, PASSWORD = 'ann', 'correct horse'


@pytest.fixture
def gradio():
  pytest.importorskip('gradio', reason="needs: pip install -e '.[demo]'")


@pytest.fixture(scope='module')
def guarded(page_workdir, service, tmp_path_factory):
  """The address of a page with a password, where little may wait."""
  assert len(service.index)  # It is made by now, and kept in the workdir.
  folder = tmp_path_factory.mktemp('password')
  (folder / 'password').write_text(PASSWORD + '\n')
  with conftest.served(
    page_workdir,
    f'--user={USER}',
    f'--password_file={folder / "password"}',
    '--max_queue=1',
    f'--data_dir={folder}',
    TMPDIR=folder,
  ) as (process, address):
    yield process, address, folder


@pytest.mark.slow
def test_strangers_see_nothing(guarded):
  httpx = pytest.importorskip('httpx')
  _, address, _ = guarded
  with httpx.Client(base_url=address) as http:
    assert 'gf-drop' not in http.get('/').text
    assert conftest.HOSTILE[0] not in http.get('/').text
    for method, path in (
      ('GET', '/config'),
      ('GET', '/gradio_api/info'),
      ('POST', '/gradio_api/upload'),
      ('POST', '/gradio_api/queue/join'),
      ('POST', '/gradio_api/call/name_genres'),
      ('GET', '/gradio_api/queue/data?session_hash=a'),
      ('GET', '/gradio_api/call/name_genres/abc'),
    ):
      response = http.request(method, path, headers={'content-length': '0'})
      assert response.status_code == 401, path
    for user, password in (
      (USER, 'wrong password'),
      ('bob', PASSWORD),
      (USER, ''),
    ):
      response = http.post(
        '/login', data={'username': user, 'password': password}
      )
      assert response.status_code in (400, 422)
    assert http.get('/config').status_code == 401
    response = http.post(
      '/login', data={'username': USER, 'password': PASSWORD}
    )
    assert response.status_code == 200
    assert http.get('/config').status_code == 200


@pytest.mark.slow
def test_a_browser_logs_in(guarded, posters):
  _, address, _ = guarded
  with browser.launched() as launched, launched.new_context() as context:
    page = context.new_page()
    page.goto(address)
    page.get_by_label('username').fill(USER)
    page.get_by_label('password').fill(PASSWORD)
    page.get_by_role('button', name='Login').click()
    page.wait_for_selector('.gf-drop')
    page.set_input_files('.gf-drop input', [str(posters[0])])
    page.wait_for_selector('.gf-bars')
    # The data set is not there, and the index is.
    assert page.locator('.gf-similar').count() == 1


@pytest.mark.slow
def test_a_program_logs_in_and_a_full_queue_is_told(guarded, posters):
  httpx = pytest.importorskip('httpx')
  _, address, _ = guarded
  with httpx.Client(base_url=address, timeout=60) as http:
    http.post('/login', data={'username': USER, 'password': PASSWORD})
    paths = [
      http.post('/gradio_api/upload', files={'files': path.read_bytes()}).json()
      for path in posters
    ]
    given = [
      {'path': path, 'meta': {'_type': 'gradio.FileData'}} for [path] in paths
    ]
    responses = [
      http.post('/gradio_api/call/name_genres', json={'data': [given]})
      for _ in range(30)
    ]
    statuses = {response.status_code for response in responses}
    # Some were let in, the others told.
    assert statuses == {200, 503}
    for response in responses:
      if response.status_code == 503:
        assert 'queue is full' in response.text.lower()
        continue
      event = response.json()['event_id']
      answer = http.get(f'/gradio_api/call/name_genres/{event}').text
      assert answer.count('"genres"') == len(posters)


def test_without_a_data_set_there_are_no_similar_posters(
  page_predictor, tmp_path, service, caplog
):
  embedder, index, why = run._open_index(
    page_predictor, epath.Path(tmp_path), str(tmp_path / 'gone')
  )
  assert embedder is None and index is None
  assert 'shows no similar posters' in caplog.text
  about = fragments.Fragments(service).about(
    name='a', metrics=None, why_none_similar=why
  )
  assert f'No similar posters are shown: {why}' in about
  assert 'Its scores are not in the workdir' in about
  assert fragments.Fragments(service).similar([]) == ''


@needs_gradio
@pytest.mark.slow
@pytest.mark.usefixtures('gradio')
def test_ctrl_c_ends_it_and_deletes_what_was_uploaded(page_workdir, tmp_path):
  process = binaries.start(
    'page', f'--workdir={page_workdir}', '--port=0', TMPDIR=tmp_path
  )
  with process:
    for line in process.stdout:
      if line.startswith('The page is at'):
        break
    [folder] = tmp_path.glob('genre_flax_page_*')
    assert folder.stat().st_mode & 0o077 == 0
    assert (folder / 'examples' / '1.jpg').exists()
    process.send_signal(signal.SIGINT)
    rest, _ = process.communicate(timeout=30)
  assert process.returncode == 130, rest
  assert rest.strip().endswith('Stopped.')
  assert 'Traceback' not in rest
  assert list(tmp_path.glob('genre_flax_page_*')) == []


@needs_gradio
@pytest.mark.slow
@pytest.mark.usefixtures('gradio')
def test_a_port_that_is_taken_is_told_at_once(page_workdir):
  with socket.create_server(('127.0.0.1', 0)) as taken:
    port = taken.getsockname()[1]
    result = binaries.run('page', f'--workdir={page_workdir}', f'--port={port}')
  assert result.returncode == 73
  assert f'Another program listens on port {port}' in result.stderr
  assert 'Traceback' not in result.stderr


@needs_gradio
@pytest.mark.slow
@pytest.mark.usefixtures('gradio')
def test_a_workdir_that_is_not_there_is_told(tmp_path):
  result = binaries.run('page', f'--workdir={tmp_path}/none', '--port=0')
  assert result.returncode == 2
  assert result.stderr.startswith('error: ')
  assert f'{tmp_path}/none' in result.stderr
  assert 'Traceback' not in result.stderr


def test_addresses():
  with socket.create_server(('127.0.0.1', 0)) as taken:
    port = taken.getsockname()[1]
    with pytest.raises(errors.BusyError, match=f'--port={port + 1}'):
      run.listen('127.0.0.1', port)
  with pytest.raises(errors.InputError, match='cannot be listened on'):
    run.listen('192.0.2.1', 0)
  with pytest.raises(errors.InputError, match='is no address'):
    run.listen('no such host', 0)
  with run.listen('127.0.0.1', 0) as listening:
    assert re.fullmatch(r'http://127\.0\.0\.1:\d+', run.address(listening))


def test_a_missing_gradio_is_told(monkeypatch):
  monkeypatch.setattr(importlib.util, 'find_spec', lambda name: None)
  with pytest.raises(errors.InputError, match=r"pip install -e '\.\[demo\]'"):
    run.require_gradio()
