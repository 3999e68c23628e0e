"""ASGI middleware for limits that Gradio 6.31 has no setting for.

The server fetches an http(s) address that a request names in place of a file;
a folder in that place ends the deletion of old files; a body of any size is
read into memory; uploads have no total size, and parts of interrupted ones are
kept.
"""

import asyncio
import contextlib
import json
import pathlib
import re
import time

from starlette import requests
from starlette import responses
from starlette import types

# Uploaded files are deleted after this time, in seconds.
KEEP_SECONDS = 3600
MAX_TOTAL_BYTES = 1 << 31
MAX_BODY_BYTES = 1 << 20


class LimitsMiddleware:
  """Limits sizes, and files to those of Gradio: 403, 411, 413 or 507."""

  def __init__(self, app: types.ASGIApp, *, upload_dir: pathlib.Path):
    self._app, self._upload_dir = app, upload_dir
    # UPLOAD_DIR/CHECKSUM/NAME
    self._file = re.compile(
      re.escape(str(upload_dir)) + r'/\w+/[^/]*[^/.][^/]*'
    )

  async def __call__(
    self, scope: types.Scope, receive: types.Receive, send: types.Send
  ) -> None:
    """Handles a request; the server limits a body to its Content-Length."""
    status, paths, messages = None, [], []
    if scope['type'] == 'http' and scope['method'] == 'POST':
      request = requests.Request(scope, receive)
      length = request.headers.get('content-length', '')
      if not length.isdigit():
        status = 411
      elif scope['path'].rstrip('/').endswith('/upload'):
        used = await asyncio.to_thread(self._num_bytes)
        status = 507 if used + int(length) > MAX_TOTAL_BYTES else None
      elif int(length) > MAX_BODY_BYTES:
        status = 413
      else:
        body = await request.body()
        messages.append({'type': 'http.request', 'body': body})
        # What is not JSON is a login form, or refused by Gradio.
        with contextlib.suppress(ValueError, RecursionError):
          json.loads(body, object_hook=lambda v: paths.append(v.get('path')))
    elif match := re.search(r'/file[=/](.*)', scope.get('path', ''), re.DOTALL):
      paths.append(match[1])
    if not all(
      path is None or self._file.fullmatch(str(path)) for path in paths
    ):
      status = 403

    async def receive_again() -> types.Message:
      return messages.pop() if messages else await receive()

    app = responses.Response(status_code=status) if status else self._app
    await app(scope, receive_again, send)

  def _num_bytes(self) -> int:
    """Size of all files; deletes old parts of interrupted uploads."""
    total = 0
    for path in self._upload_dir.rglob('*'):
      with contextlib.suppress(FileNotFoundError):  # Deleted in the meantime.
        stat = path.lstat()
        is_part = path.parent == self._upload_dir and path.is_file()
        if is_part and time.time() - stat.st_ctime > KEEP_SECONDS:
          path.unlink()
        total += stat.st_size
    return total
