"""The page in a real browser."""

import base64
import contextlib
import csv
import io

import numpy as np
import pytest

from genre_flax.demo import service as service_lib
from tests.demo import conftest
from tests.support import browser

pytestmark = pytest.mark.slow
NAME = '=x <img src=x onerror=alert(3)> {{value}} ${name}.jpg'


@pytest.fixture(scope='module')
def chromium(address):
  with browser.launched() as launched:
    yield launched


@pytest.fixture
def page(chromium, address):
  """The page, which must load nothing else and complain of nothing."""
  with browser.opened(chromium, address) as page:
    page.wait_for_selector('.gf-drop')
    yield page


def give(page, *paths):
  page.set_input_files('.gf-drop input', [str(path) for path in paths])


def expected_order(service, path):
  [answer] = service.name_genres([service_lib.Upload(path.name, path)])
  return answer


def names_in(page, selector):
  return page.locator(f'{selector} .gf-name').all_inner_texts()


def test_a_poster_its_genres_and_where_the_network_looked(
  page, service, posters
):
  give(page, posters[0])
  page.wait_for_selector('.gf-bars')
  answer = expected_order(service, posters[0])
  names = [shown(service.genres[genre]) for genre in answer.order]
  assert names_in(page, '.gf-genres > .gf-bars') == names[:3]
  page.click('.gf-genres summary')
  assert names_in(page, '.gf-genres details') == names[3:]
  first = page.locator('.gf-bars button').first
  assert first.get_attribute('aria-pressed') == 'true'
  percent = f'{100 * answer.scores[answer.order[0]]:.0f} %'
  assert first.locator('.gf-score').inner_text() == percent
  # The poster, its map, and the map of another genre.
  assert page.locator('.gf-poster img').count() == 2
  assert 'synthetic00000.jpg' in page.get_attribute('.gf-poster img', 'alt')
  before = page.get_attribute('.gf-map', 'src')
  assert names[0] in page.get_attribute('.gf-map', 'alt')
  page.locator('.gf-bars button').nth(2).click()
  page.wait_for_function(
    'before => document.querySelector(".gf-map").src !== before', arg=before
  )
  assert names[2] in page.get_attribute('.gf-map', 'alt')
  assert page.locator('.gf-bars button').nth(2).get_attribute(
    'aria-pressed'
  ) == ('true')
  # The map can be taken away.
  assert opacity(page) == '1'
  page.click('.gf-switch')
  page.wait_for_function(
    'getComputedStyle(document.querySelector(".gf-map")).opacity === "0"'
  )
  assert page.locator('.gf-similar li').count() == service_lib.NUM_SIMILAR


def shown(name):
  return name.replace('\x1b', '\\x1b')


def opacity(page):
  return page.evaluate(
    'getComputedStyle(document.querySelector(".gf-map")).opacity'
  )


def test_a_batch_its_table_and_bad_files(page, service, posters, tmp_path):
  (tmp_path / NAME).write_text('<html>')
  hostile = tmp_path / f'good {NAME}'
  hostile.write_bytes(posters[3].read_bytes())
  large = tmp_path / 'large.jpg'
  large.write_bytes(bytes(conftest.LIMITS.max_bytes + 100_000))
  good = [*posters[:3], hostile]
  give(page, *posters[:3], tmp_path / NAME, large, hostile)
  page.wait_for_selector('.gf-batch li')
  assert page.locator('.gf-batch li').count() == 4
  problems = page.locator('.gf-problem').inner_text()
  assert NAME in problems and 'the file is an HTML page' in problems
  assert 'large.jpg' in problems and 'too large' in problems
  with page.expect_download() as download:
    page.click('.gf-batch a[download]')
  assert download.value.suggested_filename == 'predictions.csv'
  text = download.value.path().read_text()
  header, *rows = csv.reader(io.StringIO(text))
  assert header[0] == 'poster'
  assert [row[0] for row in rows] == [
    *(path.name for path in posters[:3]),
    f'good {NAME}',
  ]
  assert header[1 + service.genres.index(conftest.HOSTILE[1])].startswith("'=")
  for row, path in zip(rows, good, strict=True):
    np.testing.assert_allclose(
      np.array(row[1:], float),
      expected_order(service, posters[3] if path is hostile else path).scores,
      atol=1e-5,
    )
  # Another poster of them is shown.
  page.locator('.gf-batch li button').nth(3).click()
  page.wait_for_selector('.gf-poster .gf-file:has-text("good =x")')
  assert names_in(page, '.gf-genres > .gf-bars')[0] == shown(
    service.genres[expected_order(service, posters[3]).order[0]]
  )
  # None of the names became markup.
  assert page.locator('img[src="x"]').count() == 0


def test_a_bad_file_alone_then_a_good_one(page, posters, tmp_path):
  (tmp_path / 'empty.jpg').write_bytes(b'')
  give(page, posters[0])
  page.wait_for_selector('.gf-bars')
  give(page, tmp_path / 'empty.jpg')
  page.wait_for_selector('.gf-batch h2:has-text("No poster could be read")')
  assert 'empty image' in page.locator('.gf-problem').inner_text()
  assert page.locator('.gf-bars').count() == 0
  give(page, posters[1])
  page.wait_for_selector('.gf-bars')
  assert page.locator('.gf-problem').count() == 0


def test_too_many_files_are_told(page, posters):
  give(page, *(posters[:13] + posters[:12]))
  page.wait_for_selector('.gf-problem:has-text("at most 24")')
  assert page.locator('.gf-batch').count() == 0


def test_pasted_dropped_and_drawn_posters(page, posters):
  page.evaluate(
    """async (content) => {
      const bytes = Uint8Array.from(atob(content), c => c.charCodeAt(0));
      const data = new DataTransfer();
      data.items.add(new File([bytes], 'pasted.jpg', {type: 'image/jpeg'}));
      document.dispatchEvent(
        new ClipboardEvent('paste', {clipboardData: data}));
      window.dropped = data;
    }""",
    base64.b64encode(posters[2].read_bytes()).decode(),
  )
  page.wait_for_selector('.gf-poster .gf-file:has-text("pasted.jpg")')
  page.locator('.gf-examples button').nth(1).click()
  page.wait_for_selector('.gf-poster .gf-file:has-text("Drawn poster 2")')
  page.evaluate(
    """document.querySelector('.gf-drop').dispatchEvent(
      new DragEvent('drop', {dataTransfer: window.dropped, bubbles: true}))"""
  )
  page.wait_for_selector('.gf-poster .gf-file:has-text("pasted.jpg")')


def test_what_the_page_says(page, page_workdir):
  text = page.inner_text('body')
  assert page_workdir.name in text  # 'run <b>'
  assert 'constant baseline' in text and 'Hit at 3' in text
  assert 'Grad-CAM' in text and 'What it cannot do' in text
  assert shown(conftest.HOSTILE[0]) in text
  assert shown(conftest.HOSTILE[1]) in text
  assert 'gradio' not in text.lower()
  assert page.title() == 'What genre is this poster?'
  levels = page.evaluate(
    "[...document.querySelectorAll('h1,h2,h3')].map(e => +e.tagName[1])"
  )
  assert levels[0] == 1 and levels.count(1) == 1
  assert all(levels[i + 1] <= levels[i] + 1 for i in range(len(levels) - 1))
  for image in page.locator('img').all():
    assert image.get_attribute('alt') is not None


@pytest.mark.parametrize('scheme', ['light', 'dark'])
def test_it_fits_a_phone_in_both_lights(chromium, address, posters, scheme):
  with browser.opened(
    chromium, address, width=390, height=800, color_scheme=scheme
  ) as page:
    page.wait_for_selector('.gf-drop')
    give(page, *posters[:5])
    page.wait_for_selector('.gf-similar')
    assert page.evaluate('document.documentElement.scrollWidth') == 390
    ink, paper = page.evaluate(
      """['color', 'backgroundColor'].map(name => getComputedStyle(
        document.querySelector('.gradio-container'))[name])"""
    )
    assert contrast(ink, paper) > 7
    assert (luminance(paper) < 0.1) == (scheme == 'dark')
    faint = page.evaluate(
      "getComputedStyle(document.querySelector('.gf-hint')).color"
    )
    assert contrast(faint, paper) > 4.5


def luminance(color):
  """Relative luminance (WCAG 2.1) of rgb(...)."""
  values = [float(v) / 255 for v in color[4:-1].split(',')]
  linear = [
    v / 12.92 if v <= 0.03928 else ((v + 0.055) / 1.055) ** 2.4 for v in values
  ]
  return float(np.dot(linear, [0.2126, 0.7152, 0.0722]))


def contrast(one, other):
  high, low = sorted([luminance(one), luminance(other)], reverse=True)
  return (high + 0.05) / (low + 0.05)


def test_two_people_do_not_see_each_other(chromium, address, posters):
  with (
    browser.opened(chromium, address) as one,
    browser.opened(chromium, address) as other,
  ):
    give(one, posters[0])
    give(other, *posters[1:4])
    for page in (one, other):
      page.wait_for_selector('.gf-similar')
    one.locator('.gf-bars button').nth(1).click()
    other.locator('.gf-batch button').nth(2).click()
    other.wait_for_selector(
      f'.gf-poster .gf-file:has-text("{posters[3].name}")'
    )
    assert posters[0].name in one.inner_text('.gf-poster')
    assert one.locator('.gf-batch').count() == 0


def test_twenty_people_at_once_each_see_their_own(
  chromium, address, service, posters
):
  """20 windows give a poster before any of them has an answer."""
  with contextlib.ExitStack() as stack:
    windows = [
      stack.enter_context(browser.opened(chromium, address)) for _ in posters
    ]
    for window in windows:
      window.wait_for_selector('.gf-drop')
    for window, path in zip(windows, posters, strict=True):
      give(window, path)
    for window, path in zip(windows, posters, strict=True):
      window.wait_for_selector('.gf-similar', timeout=60_000)
      assert path.name in window.inner_text('.gf-poster')
      answer = expected_order(service, path)
      names = [shown(service.genres[genre]) for genre in answer.order]
      assert names_in(window, '.gf-genres > .gf-bars') == names[:3]
  assert len(windows) == 20
