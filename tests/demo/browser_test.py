"""The demo in a browser."""

import base64
import contextlib
import csv
import io

import numpy as np
import pytest

from genre_flax.demo import service as service_lib
from genre_flax.runtime import text
from tests.demo import conftest
from tests.support import browser

pytestmark = [
  pytest.mark.slow,
  # Gradio's server, in a thread of this process, calls deprecated functions.
  pytest.mark.filterwarnings('ignore::DeprecationWarning'),
]
NAME = '=x <img src=x onerror=alert(3)> {{value}} ${name}.jpg'
TOP = '[data-testid=label-output-value]:visible'


@pytest.fixture(scope='module')
def chromium(address):
  with browser.launched() as launched:
    yield launched


@contextlib.contextmanager
def open_demo(chromium, address, **options):
  """A page that must load nothing from elsewhere, and log no errors."""
  ignored = ('Method not implemented.',)  # Gradio logs this after an upload.
  with browser.opened(chromium, address, ignored=ignored, **options) as page:
    page.wait_for_selector('text=Drop Image Here')
    yield page


@pytest.fixture
def page(chromium, address):
  with open_demo(chromium, address) as page:
    yield page


def give_poster(page, path):
  page.locator('input[type=file]').first.set_input_files(str(path))


def give_batch(page, *paths):
  page.get_by_role('tab', name='Batch').click()
  page.wait_for_selector('text=Drop File Here')
  page.locator('input[type=file]').last.set_input_files(list(map(str, paths)))


def ranked(service, path):
  """The displayed names of all genres by descending score."""
  scores = service.predict([path])[0].scores
  order = np.argsort(-scores, kind='stable')
  return [text.printable(service.predictor.genres[i]) for i in order]


def displayed(page):
  """The displayed top-3 predictions."""
  return page.locator('dt:visible').all_inner_texts()[:3]


def test_a_poster(page, service, posters):
  give_poster(page, posters[0])
  page.wait_for_selector('.nearest img')
  names = ranked(service, posters[0])
  assert page.inner_text(TOP) == names[0]
  assert displayed(page) == names[:3]
  page.click('text=All scores')
  page.wait_for_selector(f'dt:visible >> nth={len(names) + 2}')
  assert page.locator('dt:visible').all_inner_texts()[3:] == names
  assert page.locator('.nearest img').count() == service_lib.NUM_NEIGHBORS
  # Another genre has another map.
  genre = page.get_by_label('Genre of the map')
  assert genre.input_value() == names[0]
  attribution_map = '[data-testid=image] img, .image-frame img'
  before = page.locator(attribution_map).last.get_attribute('src')
  genre.click()
  page.get_by_role('option', name=names[2], exact=True).click()
  page.wait_for_function(
    """([selector, before]) =>
      [...document.querySelectorAll(selector)].at(-1).src !== before""",
    arg=[attribution_map, before],
  )
  # No genre became markup.
  assert page.locator('img[src="x"]').count() == 0


def test_a_batch(page, service, posters, tmp_path):
  (tmp_path / NAME).write_text('<html>')
  hostile = tmp_path / f'good {NAME}'
  hostile.write_bytes(posters[3].read_bytes())
  give_batch(page, *posters[:3], tmp_path / NAME, hostile)
  download_button = page.get_by_text('Download all scores (CSV)')
  download_button.wait_for()
  content = page.inner_text('.table-wrap')
  assert NAME in content
  assert 'Error: not an image: the file is an HTML page' in content
  assert f'{ranked(service, posters[3])[0]} 0.' in content
  with page.expect_download() as download:
    download_button.click()
  assert download.value.suggested_filename == 'predictions.csv'
  header, *rows = csv.reader(io.StringIO(download.value.path().read_text()))
  assert header[0] == 'poster'
  genres = service.predictor.genres
  assert header[1 + genres.index(conftest.HOSTILE[1])].startswith("'=")
  assert [row[0] for row in rows] == [p.name for p in (*posters[:3], hostile)]
  np.testing.assert_allclose(
    [[float(cell) for cell in row[1 : 1 + len(genres)]] for row in rows],
    [each.scores for each in service.predict(posters[:4])],
    atol=1e-5,
  )
  assert page.locator('img[src="x"]').count() == 0


def test_a_bad_file_then_a_good_one(page, service, posters, tmp_path):
  give_poster(page, posters[0])
  page.wait_for_selector(TOP)
  page.get_by_label('Remove Image').click()
  page.wait_for_selector(TOP, state='detached')
  (tmp_path / 'empty.jpg').write_bytes(b'')
  give_poster(page, tmp_path / 'empty.jpg')
  page.wait_for_selector('text=empty image')
  assert page.locator(TOP).count() == 0
  page.get_by_label('Remove Image').click()
  page.wait_for_selector('text=Drop Image Here')
  give_poster(page, posters[1])
  page.wait_for_selector(TOP)
  assert displayed(page) == ranked(service, posters[1])[:3]


def test_an_example_then_a_dropped_file(page, service, posters):
  page.locator('.gallery button, .gallery-item').nth(1).click()
  page.wait_for_selector('.nearest img')
  page.evaluate(
    """async (content) => {
      const bytes = Uint8Array.from(atob(content), c => c.charCodeAt(0));
      const data = new DataTransfer();
      data.items.add(new File([bytes], 'dropped.jpg', {type: 'image/jpeg'}));
      document.querySelector('.image-container').dispatchEvent(
        new DragEvent('drop', {dataTransfer: data, bubbles: true}));
    }""",
    base64.b64encode(posters[2].read_bytes()).decode(),
  )
  page.wait_for_function(
    """expected => [...document.querySelectorAll('dt')].slice(0, 3)
      .map(e => e.innerText).join() === expected""",
    arg=','.join(ranked(service, posters[2])[:3]),
  )


def test_the_description(page, demo_workdir):
  page.click('text=About this network')
  page.wait_for_function(
    'name => document.body.innerText.includes(name)', arg=demo_workdir.name
  )
  content = page.inner_text('body')
  assert demo_workdir.name in content  # 'run <b>'
  assert 'hit_at_3' in content and 'grad-cam' in content
  for name in conftest.HOSTILE:
    assert text.printable(name) in content
  assert page.locator('img[src="x"]').count() == 0
  assert 'gradio' not in content.lower()


@pytest.mark.parametrize('color_scheme', ['light', 'dark'])
def test_a_phone(chromium, address, posters, color_scheme):
  with open_demo(
    chromium, address, width=390, height=800, color_scheme=color_scheme
  ) as page:
    give_poster(page, posters[0])
    page.wait_for_selector('.nearest img')
    assert page.evaluate('document.documentElement.scrollWidth') == 390


def test_users_see_their_own_results(chromium, address, service, posters):
  with (
    open_demo(chromium, address) as first,
    open_demo(chromium, address) as second,
  ):
    pages = ((first, posters[0]), (second, posters[1]))
    for page, path in pages:
      give_poster(page, path)
    for page, path in pages:
      page.wait_for_selector('.nearest img')
      assert displayed(page) == ranked(service, path)[:3]
