"""Headless Chromium for tests of web pages."""

import contextlib
import functools
import http.server
import pathlib
import shutil
import threading
import warnings

import pytest

# Without requests of the browser itself.
_ARGUMENTS = (
  '--no-sandbox',
  '--disable-gpu',
  '--disable-quic',
  '--no-first-run',
  '--disable-background-networking',
  '--disable-component-update',
  '--disable-sync',
)


@contextlib.contextmanager
def launched():
  """Playwright's browser; skips the test if it is unavailable."""
  sync_api = pytest.importorskip(
    'playwright.sync_api', reason="needs: pip install 'playwright>=1.50'"
  )
  executable = shutil.which('chromium')
  if executable is None:
    pytest.skip('needs Chromium: apt-get install chromium')
  with warnings.catch_warnings():
    # Playwright uses a deprecated function of asyncio.
    warnings.simplefilter('ignore', DeprecationWarning)
    with sync_api.sync_playwright() as playwright:
      browser = playwright.chromium.launch(
        executable_path=executable, args=list(_ARGUMENTS)
      )
      yield browser
      browser.close()


@contextlib.contextmanager
def opened(browser, address, *, width=1100, height=900, ignored=(), **options):
  """A page that requests no other origin and logs no warning or error.

  Args:
    browser: the result of `launched`.
    address: address of the page.
    width: width of the window, in pixels.
    height: height of the window, in pixels.
    ignored: messages on the console that are expected.
    **options: options of Playwright's `new_context`, such as `color_scheme`.
  """
  context = browser.new_context(
    viewport={'width': width, 'height': height}, **options
  )
  page = context.new_page()
  messages, other_origins = [], []
  page.on('pageerror', lambda error: messages.append(str(error)))
  page.on(
    'console',
    lambda message: (
      messages.append(message.text)
      if message.type in ('error', 'warning') and message.text not in ignored
      else None
    ),
  )
  origin = address if address.startswith('file:') else address.rstrip('/')

  def check_origin(request):
    if not request.url.startswith((origin, 'data:', 'blob:')):
      other_origins.append(request.url)

  page.on('request', check_origin)
  page.goto(address)
  yield page
  context.close()
  assert messages == []
  assert other_origins == []


class _Handler(http.server.SimpleHTTPRequestHandler):
  def log_message(self, *args):
    del args


@contextlib.contextmanager
def serving(folder: pathlib.Path):
  """Serves a folder on localhost; yields the address."""
  handler = functools.partial(_Handler, directory=folder)
  with http.server.ThreadingHTTPServer(('127.0.0.1', 0), handler) as server:
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
      yield f'http://127.0.0.1:{server.server_port}'
    finally:
      server.shutdown()
      thread.join()
