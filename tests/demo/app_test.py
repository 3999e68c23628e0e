"""The demo as a server: its API, its limits and its login."""

import os
import re
import urllib.parse

import pytest

from tests.demo import conftest
from tests.support import paths

pytest.importorskip('gradio', reason="needs: pip install -e '.[demo]'")
gradio_client = pytest.importorskip('gradio_client')
httpx = pytest.importorskip('httpx')

pytestmark = [
  pytest.mark.slow,
  # Gradio's server, in a thread of this process, calls deprecated functions.
  pytest.mark.filterwarnings('ignore::DeprecationWarning'),
]
API = '/gradio_api'
USER, PASSWORD = 'ann', 'correct horse'


@pytest.fixture(scope='module')
def client(address):
  return gradio_client.Client(address, verbose=False, analytics_enabled=False)


@pytest.fixture(scope='module')
def http(address):
  with httpx.Client(base_url=address, timeout=30) as http:
    yield http


def upload(http, path):
  return upload_bytes(http, path.read_bytes(), name=path.name)


def upload_bytes(http, content, *, name='a.jpg'):
  return http.post(f'{API}/upload', files={'files': (name, content)})


def file_data(path):
  return {'path': path, 'meta': {'_type': 'gradio.FileData'}}


def post(http, *files):
  return http.post(f'{API}/call/predict', json={'data': [list(files)]})


def call(http, *files):
  """The events of the endpoint, or the text of an error."""
  response = post(http, *files)
  if response.status_code != 200:
    return response.text
  event = response.json()['event_id']
  return http.get(f'{API}/call/predict/{event}').text


def test_api_predictions_equal_the_service(client, service, posters, tmp_path):
  bad = tmp_path / 'bad.jpg'
  bad.write_text('<html>')
  files = [gradio_client.handle_file(str(p)) for p in (posters[0], bad)]
  good, failed = client.predict(posters=files, api_name='/predict')
  assert failed['poster'] == 'bad.jpg'
  assert failed['error'].startswith('not an image')
  assert good['poster'] == posters[0].name
  scores = {each['genre']: each['score'] for each in good['genres']}
  assert list(scores.values()) == sorted(scores.values(), reverse=True)
  expected = service.predict([posters[0]])[0].scores
  assert scores == pytest.approx(
    dict(zip(service.predictor.genres, expected.tolist(), strict=True)),
    abs=1e-5,
  )
  endpoints = client.view_api(return_format='dict')
  assert list(endpoints['named_endpoints']) == ['/predict']
  assert endpoints['unnamed_endpoints'] == {}


def test_program_of_the_document(address, posters, capsys):
  document = (paths.ROOT / 'docs' / 'demo.md').read_text()
  [program] = re.findall(r'^```python\n(.*?)^```', document, re.M | re.S)
  for documented, actual in (
    ('http://127.0.0.1:7860', address),
    ('poster.jpg', str(posters[0])),
  ):
    assert documented in program
    program = program.replace(documented, actual)
  exec(program, {})
  printed = capsys.readouterr().out
  assert posters[0].name in printed and printed.count("'score'") == 3


def test_too_many_files_are_an_error(http, posters):
  [path] = upload(http, posters[0]).json()
  events = call(http, *[file_data(path)] * (conftest.MAX_FILES + 1))
  assert 'event: error' in events
  assert f'at most {conftest.MAX_FILES} per request' in events


@pytest.mark.parametrize(
  'path',
  [
    '/etc/passwd',
    'file:///etc/passwd',
    '../../etc/passwd',
    'setup.cfg',
    '/proc/self/environ',
    '',
    '{folder}/../example1.jpg',
    '{folder}/a/../../example1.jpg',
    '{folder}',
  ],
)
def test_other_files_are_not_read(http, posters, path):
  [uploaded] = upload(http, posters[0]).json()
  assert '"genres"' in call(http, file_data(uploaded))
  path = path.format(folder=os.path.dirname(os.path.dirname(uploaded)))
  for file in (file_data(path), {'path': path}, path):
    events = call(http, file)
    assert 'genres' not in events and 'root:' not in events
  response = http.get(f'{API}/file={urllib.parse.quote(path)}')
  assert response.status_code in (403, 404)


def test_uploaded_html_is_not_rendered(http, tmp_path):
  page = tmp_path / 'page.html'
  page.write_text('<script>alert(1)</script>')
  [path] = upload(http, page).json()
  headers = http.get(f'{API}/file={path}').headers
  assert headers['content-disposition'].startswith('attachment')
  assert headers['content-type'] == 'application/octet-stream'


@pytest.mark.parametrize('genre', [-1, 99, '0', None, [1], {}])
def test_unknown_genres_have_no_map(http, posters, genre):
  [path] = upload(http, posters[0]).json()
  number = next(
    each['id']
    for each in http.get('/config').json()['dependencies']
    if len(each['inputs']) == 2
  )
  body = {
    'fn_index': number,
    'session_hash': 'abc',
    'data': [file_data(path), genre],
  }
  assert http.post(f'{API}/queue/join', json=body).status_code == 200
  events = http.get(f'{API}/queue/data', params={'session_hash': 'abc'}).text
  assert '"process_completed"' in events
  assert 'image.webp' not in events and 'Traceback' not in events


def test_login_and_queue(launch, posters):
  with (
    launch(auth=(USER, PASSWORD), max_queue=1) as demo,
    httpx.Client(base_url=demo.local_url, timeout=60) as http,
  ):
    for method, path in (
      ('GET', '/config'),
      ('GET', f'{API}/info'),
      ('POST', f'{API}/upload'),
      ('POST', f'{API}/queue/join'),
      ('POST', f'{API}/call/predict'),
      ('GET', f'{API}/queue/data?session_hash=a'),
      ('GET', f'{API}/call/predict/abc'),
    ):
      response = http.request(method, path, headers={'content-length': '0'})
      assert response.status_code == 401, path
    assert conftest.HOSTILE[0] not in http.get('/').text
    for user, password in ((USER, 'wrong'), ('bob', PASSWORD), (USER, '')):
      login = {'username': user, 'password': password}
      assert http.post('/login', data=login).status_code in (400, 422)
    login = {'username': USER, 'password': PASSWORD}
    assert http.post('/login', data=login).status_code == 200
    assert http.get('/config').status_code == 200
    files = [file_data(upload(http, path).json()[0]) for path in posters]
    assert {post(http, *files).status_code for _ in range(30)} == {200, 503}
    http.cookies.clear()
    path = files[0]['path']
    assert http.get(f'{API}/file={path}').status_code == 401
