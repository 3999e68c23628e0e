"""Embeddings and nearest posters, on synthetic data."""

import dataclasses

from etils import epath
import flax.linen as nn
import jax
import numpy as np
import pytest

from genre_flax.data import image_decoding
from genre_flax.datasets.posters import build
from genre_flax.inference import predictor as predictor_lib
from genre_flax.retrieval import embedder as embedder_lib
from genre_flax.retrieval import neighbors
from genre_flax.runtime import errors


@pytest.fixture(scope='module')
def embedder(trained_predictor):
  return embedder_lib.Embedder(trained_predictor)


@pytest.fixture(scope='module')
def index(trained_predictor, embedder, trained_workdir, tmp_path_factory):
  """The path of a stored index."""
  workdir = epath.Path(tmp_path_factory.mktemp('run'))
  neighbors.open_index(
    trained_predictor,
    embedder,
    workdir=workdir,
    data_dir=trained_predictor.data_dir(trained_workdir),
  )
  return workdir / 'index' / f'{trained_predictor.step}.npz'


@pytest.fixture
def copy(index, tmp_path):
  """The path of a copy of the index."""
  path = epath.Path(tmp_path / 'run' / 'index' / index.name)
  path.parent.mkdir(parents=True)
  return index.copy(path)


@pytest.fixture
def open_index(trained_predictor, embedder, data_dir):
  """Opens the index of a path."""

  def open_index(path, *, predictor=trained_predictor, data_dir=data_dir):
    workdir = path.parent.parent
    return neighbors.open_index(
      predictor, embedder, workdir=workdir, data_dir=str(data_dir)
    )

  return open_index


def pixels_of(dataset, *numbers):
  records = dataset.open_split('train')
  return np.stack(
    [
      image_decoding.decode_and_resize(records[i].image, height=32, width=24)
      for i in numbers
    ]
  )


def test_nearest_by_hand():
  index = neighbors.Index(
    ids=['right', 'up', 'left'],
    labels=np.array([[True, False], [True, True], [False, False]]),
    features=np.array([[1, 0], [0, 1], [-1, 0]], np.float16),
    mean=np.array([10, 10], np.float32),
    thumbnails=[b'r', b'u', b'l'],
  )
  # (3, 4) from the mean: the cosines are 3/5, 4/5 and -3/5.
  found = index.nearest(np.array([13, 14], np.float32), number=5)
  assert [each.id for each in found] == ['up', 'right', 'left']
  assert [each.genres for each in found] == [(0, 1), (0,), ()]
  assert [each.thumbnail for each in found] == [b'u', b'r', b'l']
  np.testing.assert_allclose(
    [each.similarity for each in found], [0.8, 0.6, -0.6], atol=1e-6
  )
  # The mean has no direction.
  found = index.nearest(np.array([10, 10], np.float32), number=1)
  assert found[0].similarity == 0


def test_embedding_is_mean_of_last_feature_map(
  trained_predictor, embedder, dataset
):
  pixels = pixels_of(dataset, 0, 5)
  _, captured = predictor_lib.make_model(trained_predictor).apply(
    jax.device_get(trained_predictor.variables),
    (pixels.astype(np.float32) - 127.5) / 127.5,
    train=False,
    capture_intermediates=True,
  )
  last = captured['intermediates']['ConvMaxPool_1']['__call__'][0]
  assert embedder.num_features == last.shape[-1] == 16
  np.testing.assert_allclose(
    embedder.embed(pixels), last.mean(axis=(1, 2)), atol=1e-5
  )


class Brightness(nn.Module):
  """A network whose embedding is the mean color, or none."""

  has_embedding: bool = True

  @nn.compact
  def __call__(self, images, *, train):
    return nn.Dense(12)(images.mean(axis=(1, 2)))

  def embed(self, images, *, train):
    return images.mean(axis=(1, 2)) if self.has_embedding else images


def test_embedding_is_that_of_method_embed(
  trained_predictor, dataset, monkeypatch
):
  monkeypatch.setattr(predictor_lib, 'make_model', lambda _: Brightness())
  pixels = pixels_of(dataset, 0, 5)
  np.testing.assert_allclose(
    embedder_lib.Embedder(trained_predictor).embed(pixels),
    pixels.mean(axis=(1, 2)) / 127.5 - 1,
    atol=1e-5,
  )
  other = Brightness(has_embedding=False)
  monkeypatch.setattr(predictor_lib, 'make_model', lambda _: other)
  with pytest.raises(errors.InputError, match='has no embeddings'):
    embedder_lib.Embedder(trained_predictor)


def test_nearest_to_training_poster_is_itself(
  index, open_index, embedder, dataset
):
  index = open_index(index)
  records = dataset.open_split('train')
  assert len(index) == len(records) == 93
  numbers = (0, 40, 92)
  for number, embedding in zip(
    numbers, embedder.embed(pixels_of(dataset, *numbers)), strict=True
  ):
    first, *others = index.nearest(embedding, number=6)
    assert first.id == records[number].id
    assert first.genres == tuple(np.flatnonzero(records[number].labels))
    assert first.similarity == pytest.approx(1, abs=2e-3)
    assert len(others) == 5
    assert all(other.similarity <= first.similarity for other in others)
    assert first.thumbnail.startswith(b'\xff\xd8\xff')


def test_dataset_is_needed_once(copy, open_index, tmp_path):
  assert len(open_index(copy, data_dir=tmp_path / 'missing')) == 93
  copy.unlink()
  with pytest.raises(errors.InputError, match='missing'):
    open_index(copy, data_dir=tmp_path / 'missing')


@pytest.mark.slow
def test_damaged_index_is_recomputed(copy, open_index, caplog):
  content = copy.read_bytes()
  whole = open_index(copy)
  rng = np.random.default_rng(0)
  for number, place in enumerate(rng.integers(len(content), size=16)):
    caplog.clear()
    changed = bytearray(content)
    changed[place] ^= 0x10
    is_cut = number % 2 == 0
    copy.write_bytes(bytes(changed[: place if is_cut else None]))
    index = open_index(copy)
    np.testing.assert_array_equal(index.features, whole.features)
    assert list(index.ids) == list(whole.ids)
    assert index.thumbnails == whole.thumbnails
    # A single bit may be in an unused place of the archive.
    if is_cut:
      assert 'is damaged and is recomputed' in caplog.text


@pytest.mark.parametrize('name', ['features', 'labels', 'sizes', 'ids', 'mean'])
def test_inconsistent_index_is_recomputed(name, copy, open_index, caplog):
  with np.load(copy) as stored:
    arrays = dict(stored)
  with copy.open('wb') as file:
    np.savez(file, **{**arrays, name: arrays[name][:-1]})
  index = open_index(copy)
  assert len(index) == len(index.features) == len(index.thumbnails) == 93
  assert 'is damaged and is recomputed' in caplog.text


def test_index_of_another_network_is_recomputed(
  copy, open_index, trained_predictor, caplog
):
  variables = jax.tree.map(
    lambda leaf: leaf * 1.5, jax.device_get(trained_predictor.variables)
  )
  open_index(copy)
  assert 'recomputed' not in caplog.text
  open_index(
    copy, predictor=dataclasses.replace(trained_predictor, variables=variables)
  )
  assert 'belongs to another network' in caplog.text


def test_another_dataset_is_refused(open_index, tmp_path):
  build.build_synthetic(data_dir=tmp_path, num_posters=40, seed=5)
  path = epath.Path(tmp_path / 'run' / 'index' / '1.npz')
  with pytest.raises(errors.InputError, match='the network was trained on'):
    open_index(path, data_dir=tmp_path)


def test_index_that_cannot_be_stored_is_used(open_index, tmp_path, caplog):
  (tmp_path / 'index').write_text('a file')
  assert len(open_index(epath.Path(tmp_path / 'index' / '1.npz'))) == 93
  assert 'cannot be stored' in caplog.text
