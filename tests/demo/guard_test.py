"""The guard around an application that answers everything."""

import asyncio

import pytest

from genre_flax.demo import uploads as uploads_lib

pytest.importorskip('gradio', reason="needs: pip install -e '.[demo]'")


@pytest.fixture
def ask(tmp_path):
  """Sends a request; returns the status, the text, and what got through."""
  from genre_flax.demo import guard as guard_lib

  got = []

  async def application(scope, receive, send):
    body, more = b'', True
    while more:
      message = await receive()
      body, more = body + message['body'], message['more_body']
    got.append((scope['method'], scope['path'], body))
    await send({'type': 'http.response.start', 'status': 200})
    await send({'type': 'http.response.body', 'body': b'through'})

  guard = guard_lib.Guard(
    application, uploads=uploads_lib.Uploads(str(tmp_path)), max_file_bytes=1000
  )

  def ask(method, path, *parts, length=None):
    got.clear()
    sent = []
    parts = parts or (b'',)
    messages = [
      {'type': 'http.request', 'body': part, 'more_body': i + 1 < len(parts)}
      for i, part in enumerate(parts)
    ]

    async def receive():
      return messages.pop(0)

    async def send(message):
      sent.append(message)

    headers = [] if length is None else [(b'content-length', length)]
    scope = {'type': 'http', 'method': method, 'path': path, 'headers': headers}
    asyncio.run(guard(scope, receive, send))
    start, body = sent
    assert (b'x-content-type-options', b'nosniff') in start['headers']
    return start['status'], body['body'].decode(), list(got)

  return ask


def test_what_is_allowed_gets_through_whole(ask):
  join = '/gradio_api/queue/join'
  assert ask('POST', join, b'{"da', b'ta": [', b'1]}') == (
    200,
    'through',
    [('POST', join, b'{"data": [1]}')],
  )
  assert ask('GET', '/')[0] == ask('HEAD', '/')[0] == 200
  assert ask('GET', '/assets/a-b_c.1.js')[0] == 200
  upload = '/gradio_api/upload'
  assert ask('POST', upload, b'x' * 9, length=b'9')[2] == [
    ('POST', upload, b'x' * 9)
  ]


def test_paths_are_compared_whole(ask):
  for path in (
    '/x',
    '//',
    '/config/x',
    '/assets/',
    '/assets/a\n',
    '/a/assets/b',
  ):
    assert ask('GET', path)[::2] == (404, []), path
  for path in ('/gradio_api/upload/', '/gradio_api/uploads', '/queue/join'):
    assert ask('POST', path)[::2] == (404, []), path


def test_files_are_asked_for_inside_the_uploads(ask, tmp_path):
  join = '/gradio_api/queue/join'
  inside = f'{{"data": [[{{"path": "{tmp_path}/ab/c.jpg"}}]]}}'
  assert ask('POST', join, inside.encode())[0] == 200
  outside = inside.replace('ab/c.jpg', '../c.jpg')
  assert ask('POST', join, outside.encode())[::2] == (403, [])
  # Whatever its characters are written as.
  escaped = '{"p\\u0061th": "\\u002fetc/passwd"}'
  assert ask('POST', join, escaped.encode())[::2] == (403, [])


def test_the_room_for_uploads_is_bounded(ask, tmp_path, monkeypatch):
  upload = '/gradio_api/upload'
  monkeypatch.setattr(uploads_lib, 'MAX_TOTAL_BYTES', 2000)
  assert ask('POST', upload, b'', length=b'1000')[0] == 200
  (tmp_path / 'one').write_bytes(bytes(1500))
  status, words, got = ask('POST', upload, b'', length=b'1000')
  assert status == 507 and 'no room' in words and not got
  for length in (None, b'', b'-1', b'1e3', b'many'):
    assert ask('POST', upload, b'', length=length)[::2] == (411, [])
  assert ask('POST', upload, b'', length=b'9' * 30)[::2] == (413, [])
