"""The real posters, where they lie beside the repository."""

from etils import epath
import pytest

from genre_flax.datasets.posters import build
from genre_flax.datasets.posters import sources
from genre_flax.datasets.posters import storage
from tests.support import paths

pytestmark = pytest.mark.skipif(
  not paths.REAL_POSTERS.is_dir(), reason='the real posters are not here'
)


@pytest.fixture(scope='module')
def prepared(tmp_path_factory):
  data_dir = tmp_path_factory.mktemp('real')
  source = sources.Source(
    csv=epath.Path(paths.REAL_POSTERS / 'train.csv'),
    images=epath.Path(paths.REAL_POSTERS / 'Images'),
  )
  build.build(source, data_dir=data_dir)
  return storage.open_dataset(data_dir)


def test_every_row_is_accounted_for(prepared):
  card = prepared.card
  assert card['sources'][0]['rows'] == 5610
  assert card['duplicates']['num_repeated_rows'] == 10
  assert card['num_examples'] == 5600
  assert card['skipped'] == {}
  assert len(card['genres']) == 25
  assert card['image_size']['num_reencoded'] == 0


def test_splits_are_near_their_shares_and_do_not_leak(prepared):
  card = prepared.card
  assert sum(s['num_examples'] for s in card['splits'].values()) == 5600
  shares = {
    name: split['num_examples'] / 5600 for name, split in card['splits'].items()
  }
  assert shares['train'] == pytest.approx(0.8, abs=0.02)
  assert shares['validation'] == pytest.approx(0.1, abs=0.02)
  assert len(card['duplicates']['identical_images']) == 1
  assert card['duplicates']['identical_in_other_splits'] == []


def test_stored_posters_are_the_files_bytes(prepared):
  records = prepared.open_split('test')
  for i in (0, len(records) // 2, len(records) - 1):
    file = paths.REAL_POSTERS / 'Images' / f'{records[i].id}.jpg'
    assert records[i].image == file.read_bytes()
