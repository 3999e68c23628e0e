"""Lets through what the page needs of Gradio's server, and nothing else.

Gradio serves files of its cache, fetches addresses that a request names, and
has pages for developers. Here nothing of that is wanted, so that what is
allowed is listed, and the rest is not there.
"""

from collections.abc import Awaitable, Callable
import json
import re
from typing import Any

from absl import logging

from genre_flax.demo import app
from genre_flax.demo import uploads as uploads_lib

_API = '/gradio_api'
# Paths by method, as regular expressions.
_ALLOWED = {
  'GET': re.compile(
    r'/|/config/?|/theme\.css|/favicon\.ico|/robots\.txt|/manifest\.json'
    r'|/logout|/login_check/?|/(assets|static|svelte)/[\w./-]+'
    rf'|{_API}/(info/?|app_id/?|user/?|token/?|login_check/?|theme\.css'
    r'|startup-events|upload_progress|heartbeat/\w+|queue/(data|status)'
    rf'|call/{app.API_NAME}/\w+)'
  ),
  'POST': re.compile(
    rf'/login/?|{_API}/(upload|queue/join|cancel|reset/?'
    rf'|call/{app.API_NAME}/?)'
  ),
}
_UPLOAD = f'{_API}/upload'
# Of a request that is no upload.
_MAX_BYTES = 1 << 20
# Of an upload, beside the files.
_MAX_OVERHEAD = 1 << 16
_MAX_DEPTH = 50
_HEADERS = (
  # Nothing is loaded from elsewhere, sent elsewhere, or framed. Gradio's own
  # scripts are within the page, and make functions of text.
  (
    b'content-security-policy',
    b"default-src 'self'; script-src 'self' 'unsafe-inline' 'unsafe-eval';"
    b" style-src 'self' 'unsafe-inline'; img-src 'self' data: blob:;"
    b" font-src 'self' data:; object-src 'none'; base-uri 'self';"
    b" form-action 'self'; frame-ancestors 'none'",
  ),
  (b'x-content-type-options', b'nosniff'),
  (b'referrer-policy', b'no-referrer'),
)

Scope = dict[str, Any]
Receive = Callable[[], Awaitable[dict[str, Any]]]
Send = Callable[[dict[str, Any]], Awaitable[None]]


class _RefusedError(Exception):
  """A request is not let through; arguments: HTTP status, reason."""


class Guard:
  """ASGI middleware around Gradio's application."""

  def __init__(
    self,
    application: Callable[[Scope, Receive, Send], Awaitable[None]],
    *,
    uploads: uploads_lib.Uploads,
    max_file_bytes: int,
  ):
    """Wraps an application.

    Args:
      application: that the requests are for.
      uploads: where its uploaded files are.
      max_file_bytes: of one of them. The page sends each by itself.
    """
    self._application = application
    self._uploads = uploads
    self._max_file_bytes = max_file_bytes

  async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
    """Handles a request."""
    if scope['type'] != 'http':
      if scope['type'] == 'lifespan':
        await self._application(scope, receive, send)
      return

    async def send_guarded(message):
      if message['type'] == 'http.response.start':
        message['headers'] = [*message.get('headers', ()), *_HEADERS]
      await send(message)

    try:
      receive = await self._check(scope, receive)
    except _RefusedError as e:
      status, reason = e.args
      logging.warning('Refused: %s %s', scope['method'], scope['path'][:200])
      await _answer(send_guarded, status, reason)
      return
    await self._application(scope, receive, send_guarded)

  async def _check(self, scope, receive) -> Receive:
    """Raises where a request is not allowed; returns how to read it."""
    method = {'HEAD': 'GET'}.get(scope['method'], scope['method'])
    allowed = _ALLOWED.get(method)
    if allowed is None or not allowed.fullmatch(scope['path']):
      raise _RefusedError(404, 'There is nothing here.')
    if method == 'GET':
      return receive
    if scope['path'] == _UPLOAD:
      return self._check_upload(scope, receive)
    body = await _read(receive, max_bytes=_MAX_BYTES)
    if scope['path'].startswith(_API):
      self._check_json(body)
    return _replay(body, receive)

  def _check_upload(self, scope, receive) -> Receive:
    length = dict(scope['headers']).get(b'content-length', b'')
    if not length.isdigit():
      raise _RefusedError(411, 'The upload does not say how long it is.')
    if int(length) > self._max_file_bytes + _MAX_OVERHEAD:
      raise _RefusedError(
        413,
        f'file too large: it has about {int(length):,} bytes; at most'
        f' {self._max_file_bytes:,} are accepted',
      )
    if self._uploads.num_bytes() + int(length) > uploads_lib.MAX_TOTAL_BYTES:
      raise _RefusedError(
        507, 'There is no room for more posters now; try again in a while.'
      )
    return receive

  def _check_json(self, body: bytes) -> None:
    """Files that are named must be uploaded ones: no others, no addresses."""
    if not body:
      return
    try:
      self._check_paths(json.loads(body), depth=0)
    except (ValueError, RecursionError) as e:
      raise _RefusedError(400, 'The request is no JSON.') from e

  def _check_paths(self, value, *, depth):
    if depth > _MAX_DEPTH:
      raise _RefusedError(400, 'The request is nested too deeply.')
    if isinstance(value, dict):
      if 'path' in value and not self._uploads.is_inside(value['path']):
        raise _RefusedError(
          403, 'The request names a file that was not uploaded.'
        )
      value = list(value.values())
    if isinstance(value, list):
      for each in value:
        self._check_paths(each, depth=depth + 1)


async def _read(receive, *, max_bytes) -> bytes:
  body = b''
  while True:
    message = await receive()
    if message['type'] == 'http.disconnect':
      raise _RefusedError(400, 'The request broke off.')
    body += message.get('body', b'')
    if len(body) > max_bytes:
      raise _RefusedError(
        413, f'The request has more than {max_bytes:,} bytes.'
      )
    if not message.get('more_body'):
      return body


def _replay(body: bytes, receive: Receive) -> Receive:
  messages = [{'type': 'http.request', 'body': body, 'more_body': False}]

  async def replay():
    return messages.pop() if messages else await receive()

  return replay


async def _answer(send, status, reason):
  await send(
    {
      'type': 'http.response.start',
      'status': status,
      'headers': [(b'content-type', b'text/plain; charset=utf-8')],
    }
  )
  await send({'type': 'http.response.body', 'body': reason.encode()})
