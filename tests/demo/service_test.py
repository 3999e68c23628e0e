"""Scores, attribution maps and nearest posters of files."""

from etils import epath
import numpy as np
from PIL import Image
import pytest

from genre_flax.attribution import map_images
from genre_flax.attribution import methods
from genre_flax.data import image_decoding
from genre_flax.datasets.posters import images
from genre_flax.datasets.posters import synthetic
from genre_flax.demo import service as service_lib
from tests.demo import conftest


@pytest.fixture(scope='module')
def service(trained_predictor, data_dir, tmp_path_factory):
  """Of the network that other tests use."""
  workdir = epath.Path(tmp_path_factory.mktemp('run'))
  return conftest.make_service(trained_predictor, workdir, data_dir)


def decode(path):
  return image_decoding.decode_and_resize(
    path.read_bytes(), height=32, width=24
  )


@pytest.mark.parametrize('number', [0, 1, 3, 8, 20])
def test_scores_equal_the_predictor(service, posters, number):
  scores = [each.scores for each in service.predict(posters[:number])]
  assert len(scores) == number
  if number:
    pixels = np.stack([decode(path) for path in posters[:number]])
    expected = service.predictor.predict(pixels, batch_size=8)
    np.testing.assert_allclose(scores, expected, atol=1e-6)


def test_unreadable_files_do_not_affect_others(service, posters, tmp_path):
  bad = {
    'empty.jpg': (b'', 'empty image'),
    'page.jpg': (b'<html>', 'not an image: the file is an HTML page'),
    'cut.jpg': (posters[0].read_bytes()[:2000], 'truncated or corrupt'),
    'large.jpg': (b'\xff\xd8\xff' + bytes(200_000), 'file too large'),
  }
  paths = [epath.Path(tmp_path / name) for name in (*bad, 'missing.jpg')]
  for path, (content, _) in zip(paths, bad.values(), strict=False):
    path.write_bytes(content)
  first, *failed, last = service.predict([posters[0], *paths, posters[1]])
  expected = service.predict(posters[:2])
  for actual, other in zip([first, last], expected, strict=True):
    np.testing.assert_allclose(actual.scores, other.scores, atol=1e-6)
  messages = [message for _, message in bad.values()]
  for error, message in zip(failed, [*messages, 'no such file'], strict=True):
    assert message in error.error
  for compute in (lambda p: service.attribution_map(p, 0), service.nearest):
    with pytest.raises(images.BadImageError, match='empty'):
      compute(paths[0])


def test_attribution_map_overlays_the_poster(service, posters):
  actual = service.attribution_map(posters[0], 3)
  maps = methods.Explainer(service.predictor).maps(
    decode(posters[0])[None], np.array([[3]])
  )
  picture = np.asarray(Image.open(posters[0]))
  assert actual.shape == picture.shape == (240, 160, 3)
  np.testing.assert_array_equal(actual, map_images.overlay(picture, maps[0, 0]))


def test_a_large_poster_is_displayed_smaller(service, tmp_path):
  path = epath.Path(tmp_path / 'wide.png')
  Image.new('RGB', (3000, 1500), 'red').save(path)
  assert service.attribution_map(path, 0).shape == (400, 800, 3)


def test_nearest_posters(service, posters, tmp_path):
  path = epath.Path(tmp_path / 'same.jpg')
  image, _ = synthetic.draw_poster(0)
  path.write_bytes(images.to_jpeg(image))
  found = service.nearest(path)
  assert len(found) == service_lib.NUM_NEIGHBORS
  # The training split contains this poster.
  assert found[0].id == 'synthetic00000'
  without_index = service_lib.Service(service.predictor, max_bytes=200_000)
  assert without_index.nearest(path) == []
