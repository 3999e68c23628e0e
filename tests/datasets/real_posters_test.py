"""Tests on the real posters, if they are beside the repository."""

from etils import epath
import pytest

from genre_flax.datasets.posters import build
from genre_flax.datasets.posters import columns
from genre_flax.datasets.posters import sources
from genre_flax.datasets.posters import storage
from tests.support import paths

pytestmark = pytest.mark.skipif(
  not paths.REAL_POSTERS.is_dir(), reason='there are no real posters'
)


@pytest.fixture(scope='module')
def dataset(tmp_path_factory):
  data_dir = tmp_path_factory.mktemp('real')
  source = sources.Source(
    csv=epath.Path(paths.REAL_POSTERS / 'train.csv'),
    images=epath.Path(paths.REAL_POSTERS / 'Images'),
    columns=columns.Columns(keep_na=True),
  )
  build.build(source, data_dir=data_dir)
  return storage.open_dataset(data_dir)


def test_the_dataset_is_the_known_one(dataset):
  card = dataset.card
  # Of version 0.1.0. It changes only if rows, splits or images do.
  assert card['fingerprint'] == '88f2be63d38e8574'
  assert card['sources'][0]['rows'] == 5610
  assert card['num_examples'] == 5600
  assert card['skipped'] == {}
  assert len(card['genres']) == 25
  assert card['image_size']['num_reencoded'] == 0
  splits = card['splits'].values()
  assert [one['num_examples'] for one in splits] == [4430, 592, 578]
  assert len(card['duplicates']['identical_images']) == 1
  assert card['duplicates']['identical_in_other_splits'] == []


def test_stored_images_are_the_bytes_of_the_files(dataset):
  records = dataset.open_split('test')
  for i in (0, len(records) // 2, len(records) - 1):
    file = paths.REAL_POSTERS / 'Images' / f'{records[i].id}.jpg'
    assert records[i].image == file.read_bytes()
