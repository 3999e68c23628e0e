"""What the page answers, without a page."""

import io
import threading
import time

from etils import epath
import numpy as np
from PIL import Image
import pytest

from genre_flax.attribution import map_images
from genre_flax.attribution import methods
from genre_flax.data import image_decoding
from genre_flax.datasets.posters import images
from genre_flax.datasets.posters import synthetic
from genre_flax.demo import examples
from genre_flax.demo import service as service_lib
from genre_flax.evaluation import metrics
from genre_flax.runtime import errors


def uploads_of(paths):
  return [service_lib.Upload(path.name, path) for path in paths]


def pixels_of(path):
  return image_decoding.decode_and_resize(
    path.read_bytes(), height=32, width=24
  )


@pytest.mark.parametrize('number', [1, 3, 8, 20])
def test_scores_are_those_of_the_predictor(
  service, page_predictor, posters, number
):
  answers = service.name_genres(uploads_of(posters[:number]))
  expected = page_predictor.predict(
    np.stack([pixels_of(path) for path in posters[:number]]), batch_size=8
  )
  np.testing.assert_allclose(
    [answer.scores for answer in answers], expected, atol=1e-6
  )
  for answer, path, scores in zip(answers, posters, expected, strict=False):
    assert answer.upload.path == path
    assert answer.order[:3] == list(metrics.top_k(scores[None])[0])
    assert Image.open(io.BytesIO(answer.thumbnail)).size == (72, 108)


def test_bad_files_do_not_spoil_the_others(service, posters, tmp_path):
  bad = {
    'empty.jpg': (b'', 'empty image'),
    'page.jpg': (b'<html>', 'not an image: the file is an HTML page'),
    'cut.jpg': (posters[0].read_bytes()[:2000], 'truncated or corrupt'),
    'large.jpg': (b'\xff\xd8\xff' + bytes(200_000), 'file too large'),
    'bomb.gif': (bomb(), 'decompression bomb: 60000 x 60000'),
  }
  for name, (content, _) in bad.items():
    (tmp_path / name).write_bytes(content)
  paths = [epath.Path(tmp_path / name) for name in bad]
  answers = service.name_genres(
    uploads_of([posters[0], *paths, tmp_path / 'gone.jpg', posters[1]])
  )
  assert [bool(answer.error) for answer in answers] == [False] + [True] * 6 + [
    False
  ]
  for answer, (_, words) in zip(answers[1:], bad.values(), strict=False):
    assert words in answer.error
  assert 'there is no such file' in answers[6].error
  alone = service.name_genres(uploads_of([posters[1]]))
  np.testing.assert_allclose(answers[7].scores, alone[0].scores, atol=1e-6)


def bomb():
  """A GIF file of a few bytes that says it is 60,000 pixels square."""
  content = io.BytesIO()
  Image.new('P', (8, 8)).save(content, 'GIF')
  whole = content.getvalue()
  return whole[:6] + (60_000).to_bytes(2, 'little') * 2 + whole[10:]


def test_limits(service, posters, monkeypatch):
  with pytest.raises(errors.InputError, match='25 posters .* at most 24'):
    service.name_genres(uploads_of(posters[:5] * 5))
  with pytest.raises(errors.InputError, match='No poster'):
    service.name_genres([])
  clock = iter([0.0] * 10 + [61.0] * 100)
  monkeypatch.setattr(time, 'monotonic', lambda: next(clock))
  answers = service.name_genres(uploads_of(posters))
  # One look at the clock at the start, one before each group and each poster.
  assert [bool(answer.error) for answer in answers] == [False] * 8 + [True] * 12
  assert 'took more than 60 s' in answers[-1].error


def test_the_map_is_that_of_the_explainer(service, page_predictor, posters):
  poster = service.open(service_lib.Upload('a', posters[0]))
  assert poster.picture.shape == (240, 160, 3)
  seen = service.look(poster, 3)
  maps = methods.Explainer(page_predictor).maps(
    pixels_of(posters[0])[None], np.array([[3]])
  )
  np.testing.assert_array_equal(
    seen, map_images.overlay(poster.picture, maps[0, 0])
  )


def test_a_large_poster_is_shown_small_and_in_its_proportions(
  service, tmp_path
):
  path = epath.Path(tmp_path / 'wide.png')
  Image.new('RGB', (3000, 1500), 'red').save(path)
  poster = service.open(service_lib.Upload('wide', path))
  assert poster.picture.shape == (400, 800, 3)
  assert poster.pixels.shape == (32, 24, 3)
  with pytest.raises(images.BadImageError):
    service.open(service_lib.Upload('lost', None, 'it is lost'))


def test_similar_posters(service, dataset, page_workdir, tmp_path):
  path = epath.Path(tmp_path / 'same.jpg')
  image, _ = synthetic.draw_poster(0)
  path.write_bytes(images.to_jpeg(image))
  poster = service.open(service_lib.Upload('same', path))
  found = service.similar_to(poster)
  assert len(found) == service_lib.NUM_SIMILAR
  assert found[0].id == 'synthetic00000'
  without = object.__new__(service_lib.Service)
  without.__dict__.update({**vars(service), 'index': None})
  assert without.similar_to(poster) == []


def test_threads_get_their_own_answers(service, posters):
  expected = [service.name_genres(uploads_of([p]))[0].scores for p in posters]
  found = {}

  def ask(number):
    [answer] = service.name_genres(uploads_of([posters[number]]))
    found[number] = answer.scores

  threads = [threading.Thread(target=ask, args=(n,)) for n in range(20)]
  for thread in threads:
    thread.start()
  for thread in threads:
    thread.join()
  for number, scores in found.items():
    np.testing.assert_array_equal(scores, expected[number])
  assert len(found) == 20


def test_examples_are_posters_of_different_genres(service, tmp_path):
  drawn = examples.draw(epath.Path(tmp_path / 'examples'))
  assert len({each.name for each in drawn}) == len(drawn) == 6
  assert len({each.path.read_bytes() for each in drawn}) == 6
  assert not any(answer.error for answer in service.name_genres(drawn))
