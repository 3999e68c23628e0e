"""Tests of datasets on cloud storage, with fsspec's in-memory file system."""

from etils import epath
import fsspec
from fsspec.implementations import memory
import pytest

from genre_flax.datasets.posters import build
from genre_flax.datasets.posters import storage
from genre_flax.runtime import errors
from tests.support import prepared


class Cloud(memory.MemoryFileSystem):
  protocol = 'gcs'
  store = {}
  pseudo_dirs = ['']

  @classmethod
  def _strip_protocol(cls, path):
    return super()._strip_protocol(str(path).replace('gs://', '/', 1))


@pytest.fixture
def cloud(tmp_path, monkeypatch):
  """A data_dir on gs://; the cache folder is in `tmp_path`."""
  systems = {'gcs': Cloud(), 'file': fsspec.filesystem('file')}
  monkeypatch.setattr(
    epath.backend.fsspec_backend, '_get_filesystem', systems.__getitem__
  )
  monkeypatch.setenv('XDG_CACHE_HOME', str(tmp_path / 'cache'))
  yield epath.Path('gs://bucket/data')
  Cloud.store.clear()
  Cloud.pseudo_dirs[:] = ['']


def _images(split):
  return [split[i].image for i in range(len(split))]


def test_a_dataset_on_cloud_storage_is_read_from_a_local_copy(
  cloud, tmp_path, caplog
):
  caplog.set_level('INFO')
  for _ in range(2):
    card = build.build_synthetic(data_dir=cloud, num_posters=40)
  assert caplog.text.count('Generating 40 synthetic posters') == 1
  dataset = storage.open_dataset(cloud)
  assert dataset.card == card
  build.build_synthetic(data_dir=tmp_path / 'local', num_posters=40)
  expected = storage.open_dataset(tmp_path / 'local').open_split('train')
  assert _images(dataset.open_split('train')) == _images(expected)
  # The second time, the copy is used.
  for path in storage.dataset_path(cloud).iterdir():
    path.unlink()
  assert len(dataset.open_split('train')) == len(expected)
  [copy] = (tmp_path / 'cache' / 'genre_flax' / 'data').iterdir()
  assert copy.name == card['fingerprint']


def test_a_damaged_copy_is_replaced(cloud, tmp_path, caplog):
  build.build_synthetic(data_dir=cloud, num_posters=40)
  dataset = storage.open_dataset(cloud)
  expected = _images(dataset.open_split('train'))
  [shard] = (tmp_path / 'cache').rglob('*train*')
  prepared.flip_bit(shard)
  split = dataset.open_split('train', check_records=True)
  assert 'copied again' in caplog.text
  assert _images(split) == expected


def test_a_copy_that_cannot_be_written_is_a_storage_error(
  cloud, tmp_path, monkeypatch
):
  build.build_synthetic(data_dir=cloud, num_posters=40)
  (tmp_path / 'file').touch()
  monkeypatch.setenv('XDG_CACHE_HOME', str(tmp_path / 'file'))
  with pytest.raises(errors.StorageError, match='file/genre_flax/data'):
    storage.open_dataset(cloud).open_split('train')


def test_the_card_is_copied_last(tmp_path):
  source = epath.Path(tmp_path / 'source')
  source.mkdir()
  for name in ('a', 'b', 'z'):
    (source / name).write_text(name)
  target = epath.Path(tmp_path / 'target')
  (target / 'z').mkdir(parents=True)  # Copying `z` fails.
  with pytest.raises(OSError):
    storage.copy(source, target, last='z')
  assert sorted(p.name for p in target.iterdir() if p.is_file()) == ['a', 'b']
  (target / 'a').unlink()
  with pytest.raises(OSError):
    storage.copy(source, target, last='a')
  assert not (target / 'a').exists()
