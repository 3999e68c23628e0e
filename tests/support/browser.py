"""A browser that tests drive: Debian's Chromium, by Playwright for Python.

Both are optional, and a test that asks for the fixture `chromium` is skipped
where one is missing. To use it, a test file has

    from tests.support.browser import chromium  # noqa: F401  A fixture.
"""

import contextlib
import functools
import http.server
import os
import pathlib
import shutil
import threading

import pytest

# Debian's; never one that Playwright downloads.
PATH = os.environ.get('CHROMIUM', '/usr/bin/chromium')
_ARGUMENTS = (
  '--headless',
  '--no-sandbox',
  '--disable-gpu',
  '--disable-quic',
  '--no-first-run',
  '--disable-background-networking',
  '--disable-component-update',
  '--disable-sync',
)


@pytest.fixture(scope='module')
def chromium(tmp_path_factory):
  """A browser of its own for a test file; `new_page()` opens a page."""
  sync_api = pytest.importorskip(
    'playwright.sync_api', reason='playwright is not installed (53 MB)'
  )
  path = shutil.which(PATH)
  if path is None:
    pytest.skip(f'there is no browser at {PATH} (`apt-get install chromium`)')
  with sync_api.sync_playwright() as playwright:
    context = playwright.chromium.launch_persistent_context(
      tmp_path_factory.mktemp('chromium'),
      executable_path=path,
      args=list(_ARGUMENTS),
    )
    yield context
    context.close()


class _Handler(http.server.SimpleHTTPRequestHandler):
  def log_message(self, *args):
    del args


@contextlib.contextmanager
def serving(folder: pathlib.Path):
  """Serves a folder on this machine; yields its address."""
  handler = functools.partial(_Handler, directory=folder)
  with http.server.ThreadingHTTPServer(('127.0.0.1', 0), handler) as server:
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
      yield f'http://127.0.0.1:{server.server_port}'
    finally:
      server.shutdown()
      thread.join()
