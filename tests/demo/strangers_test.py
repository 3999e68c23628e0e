"""The page as a server: what strangers do not get."""

import json
import os
import urllib.parse

import pytest

from tests.demo import asking
from tests.demo import conftest

pytest.importorskip('gradio', reason="needs: pip install -e '.[demo]'")
httpx = pytest.importorskip('httpx')

API = asking.API
pytestmark = pytest.mark.slow


@pytest.mark.parametrize(
  'path',
  [
    '/etc/passwd',
    '//etc/passwd',
    'file:///etc/passwd',
    '../../etc/passwd',
    'etc/passwd',
    '/proc/self/environ',
    '~/.bashrc',
    '',
    None,
    7,
    ['/etc/passwd'],
    {'path': '/etc/passwd'},
    'http://127.0.0.1:1/a.jpg',
    'http://169.254.169.254/latest/meta-data',
    'https://example.com/a.jpg',
    'HTTP://example.com/a.jpg',
    'ftp://example.com/a.jpg',
  ],
)
def test_a_file_that_was_not_uploaded_is_refused(http, path):
  response = asking.call(http, {**asking.file_data(''), 'path': path})
  assert response.status_code == 403
  assert response.text == 'The request names a file that was not uploaded.'
  # However deep it is, and whichever of the page's functions it is for.
  for number in range(6):
    response = http.post(
      f'{API}/queue/join',
      json={
        'fn_index': number,
        'session_hash': 'abc',
        'data': [[{'image': asking.file_data('') | {'path': path}}]],
        'event_data': {'files': [{'name': 'a', 'path': path}]},
      },
    )
    assert response.status_code == 403


def test_a_name_alone_is_no_file(http):
  for given in ('/etc/passwd', 'http://127.0.0.1:1/a.jpg'):
    assert 'event: error' in asking.call(http, given)


def test_paths_that_lead_out_of_the_uploads_are_refused(http, posters):
  [path] = asking.upload(http, posters[0]).json()
  folder = os.path.dirname(os.path.dirname(path))
  for other in (
    f'{folder}/../examples/1.jpg',
    f'{path}/../../../examples/1.jpg',
    f'{folder}/%2e%2e/examples/1.jpg/../../../../../../etc/passwd',
    f'{folder}',
  ):
    assert asking.call(http, asking.file_data(other)).status_code == 403, other
  assert '"genres"' in asking.call(http, asking.file_data(path))


@pytest.mark.parametrize(
  'path',
  [
    '/etc/passwd',
    '../../../etc/passwd',
    '..%2f..%2f..%2fetc%2fpasswd',
    '%2e%2e/%2e%2e/etc/passwd',
    'http://127.0.0.1:1/a',
    'https://example.com/a.jpg',
    'setup.cfg',
  ],
)
def test_no_file_is_served(http, address, path):
  for prefix in (
    f'{API}/file=',
    f'{API}/file/',
    f'{API}/proxy=',
    f'{API}/stream/',
    '/file=',
    '/static/',
    '/assets/',
    '/svelte/',
    f'{API}/custom_component/',
  ):
    url = httpx.URL(f'{address}{prefix}{path}')
    response = http.get(url)
    assert response.status_code in (403, 404), url
    assert 'root:' not in response.text and 'install_requires' not in (
      response.text
    )


def test_uploaded_files_are_not_served_either(http, posters):
  [path] = asking.upload(http, posters[0]).json()
  assert os.path.exists(path)
  response = http.get(f'{API}/file={urllib.parse.quote(path)}')
  assert response.status_code == 404


@pytest.mark.parametrize(
  'method, path',
  [
    ('GET', '/monitoring'),
    ('GET', '/docs'),
    ('GET', '/openapi.json'),
    ('GET', f'{API}/openapi.json'),
    ('GET', f'{API}/runs'),
    ('GET', f'{API}/deep_link'),
    ('GET', f'{API}/vibe-code'),
    ('GET', f'{API}/dev/reload'),
    ('GET', f'{API}/profiling/summary'),
    ('POST', f'{API}/vibe-edit'),
    ('POST', f'{API}/component_server'),
    ('POST', f'{API}/process_recording'),
    ('POST', f'{API}/run/name_genres'),
    ('POST', f'{API}/api/name_genres'),
    ('POST', f'{API}/call/v2/name_genres'),
    ('POST', f'{API}/stream/abc'),
    ('POST', '/'),
    ('PUT', '/'),
    ('DELETE', f'{API}/upload'),
    ('OPTIONS', '/config'),
  ],
)
def test_what_the_page_does_not_need_is_not_there(http, method, path):
  response = http.request(method, path)
  assert response.status_code == 404
  assert response.text == 'There is nothing here.'


def test_uploads_are_bounded(http, tmp_path):
  large = tmp_path / 'large.jpg'
  large.write_bytes(bytes(conftest.LIMITS.max_bytes + 70_000))
  response = asking.upload(http, large)
  assert response.status_code == 413
  assert 'at most 200,000 are accepted' in response.text

  def chunks():
    yield b'x' * 100

  assert http.post(f'{API}/upload', content=chunks()).status_code == 411


@pytest.mark.parametrize(
  'content, status',
  [
    (b'{', 400),
    (b'[' * 100_000, 400),
    (b'{"a":' * 200 + b'1' + b'}' * 200, 400),
    (b'"' + b'x' * (1 << 20) + b'"', 413),
  ],
)
def test_odd_requests_are_refused(http, content, status):
  response = http.post(f'{API}/queue/join', content=content)
  assert response.status_code == status


@pytest.mark.parametrize(
  'name', ['../../a.jpg', '/etc/cron.d/a', 'a\x00b', 'CON', '.' * 300]
)
def test_names_of_uploads_lead_nowhere(http, posters, name):
  content = posters[0].read_bytes()
  response = http.post(f'{API}/upload', files={'files': (name, content)})
  if response.status_code == 200:
    [path] = response.json()
    [other] = asking.upload(http, posters[1]).json()
    folder = os.path.dirname(os.path.dirname(other))
    assert os.path.dirname(os.path.dirname(os.path.realpath(path))) == folder
  else:
    assert response.status_code in (400, 500)


def test_headers_keep_the_page_to_itself(http):
  for path in ('/', '/nothing', '/config'):
    headers = http.get(path).headers
    assert "default-src 'self'" in headers['content-security-policy']
    assert "frame-ancestors 'none'" in headers['content-security-policy']
    assert headers['x-content-type-options'] == 'nosniff'
    assert 'access-control-allow-origin' not in headers


def test_choices_that_are_not_there_are_errors(http, posters):
  """What the page's functions are told may be anything."""
  config = http.get('/config').json()
  numbers = [d['id'] for d in config['dependencies']]
  assert len(numbers) == 5
  for number in numbers:
    for data in (None, {}, {'index': -1}, {'index': 99}, {'files': 3}, [1]):
      session = f's{number}'
      response = http.post(
        f'{API}/queue/join',
        json={
          'fn_index': number,
          'session_hash': session,
          'data': [None, None],
          'event_data': data,
        },
      )
      assert response.status_code in (200, 400, 422, 500)
      if response.status_code != 200:
        continue
      with http.stream(
        'GET', f'{API}/queue/data', params={'session_hash': session}
      ) as events:
        for line in events.iter_lines():
          told = json.loads(line.removeprefix('data: ')) if line else {}
          if told.get('msg') == 'process_completed':
            break
      assert '/home' not in json.dumps(told)
      assert 'Traceback' not in json.dumps(told)
