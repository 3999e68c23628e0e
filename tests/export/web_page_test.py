"""The web page in a browser: predicts the same as top3, and sends nothing."""

import base64
import io
import json

from etils import epath
import numpy as np
from PIL import Image
import pytest

from genre_flax.data import image_decoding
from genre_flax.datasets.posters import synthetic
from genre_flax.evaluation import metrics
from genre_flax.export import export
from genre_flax.inference import image_files
from genre_flax.runtime import errors
from tests.support import browser

pytestmark = pytest.mark.slow  # Starts a browser.

HOSTILE = '<img src=x onerror="document.title=1">'


@pytest.fixture(scope='module')
def page_folder(predictor, workdir, onnx_folder, tmp_path_factory):
  output = tmp_path_factory.mktemp('page') / 'page'
  try:
    export.export(predictor, workdir=workdir, format='web', output=output)
  except errors.ResourceError as e:
    pytest.skip(f'onnxruntime-web is not available (33 MB): {e}')
  return output


@pytest.fixture(scope='module')
def chromium():
  with browser.launched() as launched:
    yield launched


@pytest.fixture(scope='module')
def address(chromium, page_folder):
  with browser.serving(page_folder) as address:
    yield address


@pytest.fixture
def page(chromium, address):
  with browser.opened(chromium, address) as page:
    page.get_by_text('Ready').wait_for()
    yield page


@pytest.fixture(scope='module')
def posters(tmp_path_factory):
  """20 image files; the large JPEGs are decoded at a fraction of their size."""
  folder = epath.Path(tmp_path_factory.mktemp('posters'))
  for i in range(20):
    image, _ = synthetic.draw_poster(i, seed=4)
    suffix = ('jpg', 'jpg', 'png', 'webp')[i % 4]
    size = ((160, 240), (402, 603), (1003, 1507), (210, 190))[i % 4]
    image.resize(size).save(folder / f'{i:02d}.{suffix}', quality=95)
  return sorted(folder.iterdir())


def upload(page, name, content):
  file = {'name': name, 'mimeType': 'image/jpeg', 'buffer': content}
  page.set_input_files('#file', file)


def top3(page):
  page.locator('#top3 li').first.wait_for()
  return page.locator('#top3 .genre').all_inner_texts()


def test_predictions_equal_top3(page, predictor, posters):
  for one in image_files.predict_files(predictor, posters, batch_size=32):
    upload(page, one.path.name, one.path.read_bytes())
    page.get_by_alt_text(f'Poster {one.path.name}').wait_for()
    top = metrics.top_k(one.scores[None])[0]
    expected = [100 * one.scores[i] for i in top]
    # Genres with equal scores may change places, since browsers decode a JPEG
    # slightly differently.
    scores = dict(zip(predictor.genres, 100 * one.scores, strict=True))
    assert [scores[genre] for genre in top3(page)] == pytest.approx(
      expected, abs=0.3
    )
    shown = page.locator('#top3 .score').all_inner_texts()
    assert [int(text.split()[-2]) for text in shown] == pytest.approx(
      expected, abs=1.6
    )
  page.locator('summary').click()
  others = page.locator('#others .genre').all_inner_texts()
  assert {*others, *top3(page)} == set(predictor.genres)


@pytest.mark.parametrize(
  'width, height',
  [(24, 32), (10, 11), (100, 33), (313, 517), (1201, 65), (7, 90), (48, 64)],
)
def test_resizing_equals_training(page, width, height):
  rng = np.random.default_rng(width)
  picture = rng.integers(0, 256, (height, width, 3), np.uint8)
  file = io.BytesIO()
  Image.fromarray(picture).save(file, 'PNG')
  expected = image_decoding.decode_and_resize(
    file.getvalue(), height=32, width=24
  )
  resized = page.evaluate(
    """async ([width, height, data]) => {
      const {resize} = await import('./resize.js');
      const bytes = Uint8Array.from(atob(data), (c) => c.charCodeAt(0));
      return [...resize({width, height, data: bytes}, 24, 32).data];
    }""",
    [width, height, base64.b64encode(picture.tobytes()).decode()],
  )
  np.testing.assert_array_equal(np.reshape(resized, (32, 24, 3)), expected)


@pytest.mark.parametrize(
  'content, message',
  [
    (b'', 'The file is empty'),
    (b'<!DOCTYPE html><html>', 'is a web page'),
    (b'BM' + bytes(60), 'Unknown format'),
    (b'\xff\xd8\xff\xe0' + bytes(60), 'is damaged'),
  ],
)
def test_unreadable_files_are_reported(page, posters, content, message):
  upload(page, 'good.jpg', posters[0].read_bytes())
  assert top3(page)
  upload(page, 'bad.jpg', content)
  page.get_by_text(message).wait_for()
  assert page.locator('#top3 li').count() == 0
  upload(page, 'good.jpg', posters[0].read_bytes())
  assert top3(page)
  assert page.inner_text('#error') == ''


def test_drop_and_paste(page, posters):
  content = base64.b64encode(posters[0].read_bytes()).decode()
  for kind, field in (('drop', 'dataTransfer'), ('paste', 'clipboardData')):
    page.evaluate(
      """([kind, field, data]) => {
        const bytes = Uint8Array.from(atob(data), (c) => c.charCodeAt(0));
        const transfer = new DataTransfer();
        transfer.items.add(new File([bytes], `by ${kind}.jpg`));
        const event = new Event(kind, {bubbles: true, cancelable: true});
        Object.defineProperty(event, field, {value: transfer});
        document.body.dispatchEvent(event);
      }""",
      [kind, field, content],
    )
    page.get_by_alt_text(f'Poster by {kind}.jpg').wait_for()
    assert len(top3(page)) == 3


def test_nothing_is_sent(chromium, address, posters):
  page = chromium.new_page()
  requests = []
  page.on('request', lambda request: requests.append(request))
  page.goto(address)
  page.get_by_text('Ready').wait_for()
  num_loaded = len(requests)
  upload(page, 'a.jpg', posters[0].read_bytes())
  assert top3(page)
  assert {request.method for request in requests} == {'GET'}
  loaded, later = requests[:num_loaded], requests[num_loaded:]
  assert all(request.url.startswith((address, 'data:')) for request in loaded)
  # The poster itself, from memory.
  assert all(request.url.startswith('blob:') for request in later)
  # By the Content-Security-Policy.
  assert page.evaluate(
    "fetch('https://example.org/').then(() => false, () => true)"
  )
  page.close()


def test_keyboard_and_screen_reader(page, posters):
  page.keyboard.press('Tab')
  assert page.evaluate('document.activeElement.id') == 'file'
  assert page.get_by_label('Choose a poster').count() == 1
  upload(page, 'a.jpg', posters[0].read_bytes())
  first, _, third = top3(page)
  status = page.locator('[aria-live=polite]').text_content()
  assert first in status and third in status
  page.keyboard.press('Tab')
  assert page.evaluate('document.activeElement.tagName') == 'SUMMARY'
  page.keyboard.press('Enter')
  assert page.locator('#others li').first.is_visible()


def test_genres_are_escaped(chromium, page_folder, posters, tmp_path):
  for path in page_folder.iterdir():
    if path.name != 'config.json':
      (tmp_path / path.name).symlink_to(path)
  config = json.loads((page_folder / 'config.json').read_text())
  config['genres'] = [HOSTILE] * len(config['genres'])
  (tmp_path / 'config.json').write_text(json.dumps(config))
  page = chromium.new_page()
  with browser.serving(tmp_path) as address:
    page.goto(address)
    upload(page, f'{HOSTILE}.jpg', posters[0].read_bytes())
    assert top3(page) == [HOSTILE] * 3
    assert page.locator('#top3 img').count() == 0
    assert page.title() == 'Film genres from a poster'
    page.close()
