"""A real browser for the tests of pages: the system's Chromium, headless."""

import contextlib
import functools
import http.server
import pathlib
import shutil
import threading
import warnings

import pytest

# It must reach nothing but the page.
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
  """Playwright's browser; skips, with the reason, where there is none."""
  sync_api = pytest.importorskip(
    'playwright.sync_api', reason="needs: pip install 'playwright>=1.50'"
  )
  executable = shutil.which('chromium')
  if executable is None:
    pytest.skip('needs Chromium: apt-get install chromium')
  with warnings.catch_warnings():
    # Of Playwright, which greets asyncio as earlier versions did.
    warnings.simplefilter('ignore', DeprecationWarning)
    with sync_api.sync_playwright() as playwright:
      browser = playwright.chromium.launch(
        executable_path=executable, args=list(_ARGUMENTS)
      )
      yield browser
      browser.close()


@contextlib.contextmanager
def opened(browser, address, *, width=1100, height=900, ignored=(), **options):
  """A page at an address; it must load nothing else, and complain of nothing.

  Args:
    browser: of `launched`.
    address: of the page.
    width: of the window, in pixels.
    height: of the window, in pixels.
    ignored: messages on the console that are no complaints.
    **options: of Playwright's `new_context`, such as `color_scheme`.
  """
  context = browser.new_context(
    viewport={'width': width, 'height': height}, **options
  )
  page = context.new_page()
  complaints, elsewhere = [], []
  page.on('pageerror', lambda error: complaints.append(str(error)))
  page.on(
    'console',
    lambda message: (
      complaints.append(message.text)
      if message.type in ('error', 'warning') and message.text not in ignored
      else None
    ),
  )
  origin = address if address.startswith('file:') else address.rstrip('/')

  def look(request):
    if not request.url.startswith((origin, 'data:', 'blob:')):
      elsewhere.append(request.url)

  page.on('request', look)
  page.goto(address)
  yield page
  context.close()
  assert complaints == []
  assert elsewhere == []


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
