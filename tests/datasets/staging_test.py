"""Cloud storage played by fsspec's file system in memory."""

from etils import epath
import fsspec
from fsspec.implementations import memory
import pytest

from genre_flax.datasets.posters import build
from genre_flax.datasets.posters import staging
from genre_flax.datasets.posters import storage
from genre_flax.runtime import errors


class Cloud(memory.MemoryFileSystem):
  protocol = 'gcs'
  store = {}
  pseudo_dirs = ['']

  @classmethod
  def _strip_protocol(cls, path):
    return super()._strip_protocol(str(path).replace('gs://', '/', 1))


@pytest.fixture
def cloud(tmp_path, monkeypatch):
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


def test_a_data_set_is_written_to_the_cloud_and_read_from_a_copy(
  cloud, tmp_path
):
  card = build.build_synthetic(data_dir=cloud, num_posters=40)
  assert (storage.dataset_path(cloud) / storage.CARD_JSON).exists()
  dataset = storage.open_dataset(cloud)
  assert dataset.card == card
  build.build_synthetic(data_dir=tmp_path / 'here', num_posters=40)
  expected = storage.open_dataset(tmp_path / 'here').open_split('train')
  split = dataset.open_split('train')
  assert _images(split) == _images(expected)
  # The copy is made once: it outlives the cloud.
  for path in storage.dataset_path(cloud).iterdir():
    path.unlink()
  assert len(dataset.open_split('train')) == len(expected)
  assert [path.name for path in (tmp_path / 'cache').rglob('*.partial')] == []


def test_the_same_data_set_is_not_written_again(cloud, caplog):
  caplog.set_level('INFO')
  for _ in range(2):
    build.build_synthetic(data_dir=cloud, num_posters=40)
  assert caplog.text.count('Drawing 40 synthetic posters') == 1


def test_a_copy_that_is_damaged_is_made_anew(cloud, tmp_path, caplog):
  build.build_synthetic(data_dir=cloud, num_posters=40)
  dataset = storage.open_dataset(cloud)
  expected = _images(dataset.open_split('train'))
  [shard] = (tmp_path / 'cache').rglob('*train*')
  content = bytearray(shard.read_bytes())
  content[len(content) // 2] ^= 1
  shard.write_bytes(content)
  split = dataset.open_split('train', check_records=True)
  assert 'copied anew' in caplog.text
  assert _images(split) == expected


def test_a_copy_that_cannot_be_made_is_told(cloud, tmp_path, monkeypatch):
  build.build_synthetic(data_dir=cloud, num_posters=40)
  (tmp_path / 'file').touch()
  monkeypatch.setenv('XDG_CACHE_HOME', str(tmp_path / 'file'))
  with pytest.raises(errors.StorageError, match='file/genre_flax/data'):
    storage.open_dataset(cloud).open_split('train')


def test_the_card_is_copied_last(tmp_path, monkeypatch):
  source = epath.Path(tmp_path / 'source')
  source.mkdir()
  for name in ('a', 'b', 'z'):
    (source / name).write_text(name)
  target = epath.Path(tmp_path / 'target')
  (target / 'z').mkdir(parents=True)  # Copying `z` fails.
  with pytest.raises(OSError):
    staging.copy(source, target, last='z')
  assert sorted(p.name for p in target.iterdir() if p.is_file()) == ['a', 'b']
  (target / 'a').unlink()
  with pytest.raises(OSError):
    staging.copy(source, target, last='a')
  assert not (target / 'a').exists()
