import json

import pytest

from genre_flax.datasets.posters import build
from genre_flax.datasets.posters import storage
from genre_flax.datasets.posters import verify
from genre_flax.runtime import errors


@pytest.fixture
def data_dir(tmp_path):
  build.build_synthetic(data_dir=tmp_path, num_posters=30)
  return tmp_path


def test_a_whole_data_set_is_said_to_be_whole(data_dir):
  number = len(list(storage.dataset_path(data_dir).iterdir())) - 1
  assert f'All {number} files of' in verify.verify(data_dir)
  assert 'are what was written' in verify.verify(data_dir)


def test_every_damaged_file_is_named(data_dir):
  folder = storage.dataset_path(data_dir)
  [train] = folder.glob('*train*')
  [test] = folder.glob('*-test*')
  train.write_bytes(train.read_bytes()[:-1])
  content = bytearray(test.read_bytes())
  content[1000] ^= 1
  test.write_bytes(content)
  with pytest.raises(errors.DamageError) as error:
    verify.verify(data_dir)
  assert '2 file(s) are damaged' in str(error.value)
  assert f'{test} does not fit its digest' in str(error.value)
  assert f'{train} has' in str(error.value)


def test_of_an_earlier_version_every_poster_is_decoded(data_dir):
  folder = storage.dataset_path(data_dir)
  (folder / 'digests.json').unlink()
  card = json.loads((folder / 'data_card.json').read_text())
  del card['digests']
  (folder / 'data_card.json').write_text(json.dumps(card))
  shown = []

  def progress(items, total, description):
    shown.append((total, description))
    return items

  words = verify.verify(data_dir, progress=progress)
  assert 'All 30 posters of' in words
  assert 'without digests' in words
  assert sum(total for total, _ in shown) == 30
  [train] = folder.glob('*train*')
  content = bytearray(train.read_bytes())
  content[len(content) // 2] ^= 1
  train.write_bytes(content)
  with pytest.raises(errors.DamageError, match=f'of {train} cannot be read'):
    verify.verify(data_dir)
