"""The page, in a browser: it names what `top3` names, and sends nothing."""

import base64
import io
import json

import numpy as np
from PIL import Image
import pytest

from genre_flax.data import image_decoding
from genre_flax.datasets.posters import synthetic
from genre_flax.evaluation import metrics
from genre_flax.export import ort_web
from genre_flax.export import write
from genre_flax.inference import image_files
from genre_flax.runtime import errors
from tests.support import browser

# A browser is started.
pytestmark = pytest.mark.slow

HOSTILE = '<img src=x onerror="document.title=1">'


@pytest.fixture(scope='module')
def page_folder(predictor, workdir, onnx_folder, tmp_path_factory):
  try:
    ort_web.files()
  except errors.ResourceError as e:
    pytest.skip(f'onnxruntime-web cannot be had (33 MB): {e}')
  output = tmp_path_factory.mktemp('page') / 'page'
  write.export(predictor, workdir=workdir, form='web', output=output)
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
  page = chromium.new_page()
  faults = []
  page.on('pageerror', lambda error: faults.append(str(error)))
  page.on('requestfailed', lambda request: faults.append(request.url))
  page.goto(address)
  page.get_by_text('Ready').wait_for()
  yield page
  page.close()
  assert not faults


@pytest.fixture(scope='module')
def posters(tmp_path_factory):
  """20 files, some small, some of which a JPEG is decoded at a part."""
  from etils import epath

  folder = epath.Path(tmp_path_factory.mktemp('posters'))
  for i in range(20):
    image, _ = synthetic.draw_poster(i, seed=4)
    suffix = ('jpg', 'jpg', 'png', 'webp')[i % 4]
    size = ((160, 240), (402, 603), (1003, 1507), (210, 190))[i % 4]
    image.resize(size).save(folder / f'{i:02d}.{suffix}', quality=95)
  return sorted(folder.iterdir())


def named(page):
  page.locator('#named li').first.wait_for()
  return page.locator('#named .name').all_inner_texts()


def give(page, name, content):
  file = {'name': name, 'mimeType': 'image/jpeg', 'buffer': content}
  page.set_input_files('#file', file)


def test_names_what_top3_names(page, predictor, posters):
  found = list(image_files.predict_files(predictor, posters, batch_size=32))
  for one in found:
    give(page, one.path.name, one.path.read_bytes())
    page.get_by_alt_text(f'The poster {one.path.name}').wait_for()
    top = metrics.top_k(one.scores[None])[0]
    expected = [100 * one.scores[i] for i in top]
    # Two that are as likely as each other may change places: browsers decode
    # a JPEG a little otherwise.
    scores = dict(zip(predictor.genres, 100 * one.scores, strict=True))
    assert [scores[name] for name in named(page)] == pytest.approx(
      expected, abs=0.3
    )
    shown = page.locator('#named .score').all_inner_texts()
    assert [int(text.split()[-2]) for text in shown] == pytest.approx(
      expected, abs=1.6
    )
  page.locator('summary').click()
  others = page.locator('#others .name').all_inner_texts()
  assert {*others, *named(page)} == set(predictor.genres)


# Pictures whose sides are in all proportions to the 24 x 32 that is asked for.
@pytest.mark.parametrize(
  'width, height',
  [(24, 32), (10, 11), (100, 33), (313, 517), (1201, 65), (7, 90), (48, 64)],
)
def test_makes_pictures_smaller_as_training_does(page, width, height):
  rng = np.random.default_rng(width)
  picture = rng.integers(0, 256, (height, width, 3), np.uint8)
  file = io.BytesIO()
  Image.fromarray(picture).save(file, 'PNG')
  expected = image_decoding.decode_and_resize(
    file.getvalue(), height=32, width=24
  )
  made = page.evaluate(
    """async ([width, height, data]) => {
      const {resize} = await import('./resize.js');
      const bytes = Uint8Array.from(atob(data), (c) => c.charCodeAt(0));
      return [...resize({width, height, data: bytes}, 24, 32).data];
    }""",
    [width, height, base64.b64encode(picture.tobytes()).decode()],
  )
  np.testing.assert_array_equal(np.array(made).reshape(32, 24, 3), expected)


@pytest.mark.parametrize(
  'content, words',
  [
    (b'', 'The file is empty'),
    (b'<!DOCTYPE html><html>', 'is a web page'),
    (b'BM' + bytes(60), 'no image that can be read'),
    (b'\xff\xd8\xff\xe0' + bytes(60), 'is damaged'),
  ],
)
def test_says_in_words_what_is_wrong_with_a_file(page, posters, content, words):
  give(page, 'good.jpg', posters[0].read_bytes())
  assert named(page)
  give(page, 'bad.jpg', content)
  page.get_by_text(words).wait_for()
  assert page.locator('#named li').count() == 0
  give(page, 'good.jpg', posters[0].read_bytes())
  assert named(page)
  assert page.inner_text('#error') == ''


def test_takes_what_is_dropped_and_pasted(page, posters):
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
    page.get_by_alt_text(f'The poster by {kind}.jpg').wait_for()
    assert len(named(page)) == 3


def test_nothing_leaves_the_page(chromium, address, posters):
  page = chromium.new_page()
  requests = []
  page.on('request', lambda request: requests.append(request))
  page.goto(address)
  page.get_by_text('Ready').wait_for()
  before = len(requests)
  give(page, 'a.jpg', posters[0].read_bytes())
  assert named(page)
  assert {request.method for request in requests} == {'GET'}
  assert all(
    request.url.startswith((address, 'blob:', 'data:')) for request in requests
  )
  # What a poster gives rise to is its own picture, out of memory.
  assert all(r.url.startswith('blob:') for r in requests[before:])
  blocked = page.evaluate(
    "fetch('https://example.org/').then(() => false, () => true)"
  )
  assert blocked
  page.close()


def test_is_used_by_keyboard_and_read_aloud(page, posters):
  page.keyboard.press('Tab')
  assert page.evaluate('document.activeElement.id') == 'file'
  label = page.get_by_label('Choose a poster')
  assert label.count() == 1
  give(page, 'a.jpg', posters[0].read_bytes())
  first, second, third = named(page)
  status = page.locator('[aria-live=polite]')
  assert first in status.text_content() and third in status.text_content()
  page.keyboard.press('Tab')
  assert page.evaluate('document.activeElement.tagName') == 'SUMMARY'
  page.keyboard.press('Enter')
  assert page.locator('#others li').first.is_visible()


def test_fits_a_phone(page, posters):
  page.set_viewport_size({'width': 390, 'height': 844})
  give(page, 'a.jpg', posters[0].read_bytes())
  assert named(page)
  assert page.evaluate('document.documentElement.scrollWidth') <= 390


def test_names_of_genres_are_text(
  chromium,
  page_folder,
  posters,
  tmp_path,
):
  folder = tmp_path / 'hostile'
  folder.mkdir()
  for path in page_folder.iterdir():
    (folder / path.name).symlink_to(path)
  config = json.loads((page_folder / 'config.json').read_text())
  config['genres'] = [HOSTILE] * len(config['genres'])
  (folder / 'config.json').unlink()
  (folder / 'config.json').write_text(json.dumps(config))
  page = chromium.new_page()
  with browser.serving(folder) as address:
    page.goto(address)
    give(page, f'{HOSTILE}.jpg', posters[0].read_bytes())
    assert named(page) == [HOSTILE] * 3
    assert page.locator('#named img').count() == 0
    assert page.title() == 'The genres of a poster'
    page.close()


def test_a_network_that_is_missing_is_told(
  chromium,
  page_folder,
  tmp_path,
):
  for path in page_folder.iterdir():
    if path.name != 'model.onnx':
      (tmp_path / path.name).symlink_to(path)
  page = chromium.new_page()
  with browser.serving(tmp_path) as address:
    page.goto(address)
    page.get_by_text('could not be loaded: model.onnx is missing').wait_for()
    page.close()
