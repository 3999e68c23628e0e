"""Tests of prepared data sets on disk."""

from concurrent import futures
import dataclasses
import json
import os
import pathlib
import re
import signal
import subprocess
import sys

from etils import epath
import numpy as np
import pytest

from genre_flax.datasets.posters import build
from genre_flax.datasets.posters import collection
from genre_flax.datasets.posters import data_card
from genre_flax.datasets.posters import problems
from genre_flax.datasets.posters import sources
from genre_flax.datasets.posters import storage
from genre_flax.datasets.posters import synthetic
from genre_flax.datasets.posters import writing
from genre_flax.runtime import errors
from tests.support import paths

_SHARES = {'train': 50, 'validation': 25, 'test': 25}


class _Posters:
  """A checked collection with its card."""

  def __init__(self, folder, num_posters, seed=0):
    csv_file, images = synthetic.write_posters(
      folder, num_posters=num_posters, seed=seed
    )
    spool = epath.Path(folder) / 'spool'
    spool.mkdir()
    self.collection = collection.collect(
      [sources.Source(csv_file, images)], shares=_SHARES, spool=spool
    )
    self.card = data_card.make(self.collection)

  def write(self, data_dir, **options):
    with writing.working_in(data_dir) as partial:
      return writing.write(
        self.collection,
        card=self.card,
        data_dir=data_dir,
        partial=partial,
        **options,
      )


@pytest.fixture(scope='module')
def posters(tmp_path_factory):
  return _Posters(tmp_path_factory.mktemp('posters'), 12)


@pytest.fixture(scope='module')
def others(tmp_path_factory):
  return _Posters(tmp_path_factory.mktemp('others'), 10, seed=1)


@pytest.fixture(scope='module')
def written(posters, tmp_path_factory):
  """A data set to read, and to copy."""
  data_dir = epath.Path(tmp_path_factory.mktemp('written'))
  assert posters.write(data_dir)
  return data_dir


def _files(folder):
  """The content of all files below a folder but the lock, by their paths."""
  folder = pathlib.Path(folder)
  return {
    str(path.relative_to(folder)): path.read_bytes()
    for path in folder.rglob('*')
    if path.is_file() and path.name != '.lock'
  }


def _copy(written, tmp_path):
  for name, content in _files(written).items():
    path = pathlib.Path(tmp_path) / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
  return storage.dataset_path(tmp_path)


def _assert_holds(data_dir, posters):
  """All splits can be read, and nothing else lies there."""
  dataset = storage.open_dataset(data_dir)
  assert dataset.card == posters.card
  ids = set()
  for name in dataset.card['splits']:
    split = dataset.open_split(name)
    ids |= {split[index].id for index in range(len(split))}
  assert ids == {example.id for example in posters.collection.examples}
  assert [
    path.name for path in (epath.Path(data_dir) / 'posters').iterdir()
  ] == ['1.0.0']


def _assert_holds_nothing(data_dir):
  with pytest.raises(errors.InputError, match='holds no prepared data set'):
    storage.open_dataset(data_dir)


def test_a_data_set_is_read_as_it_was_written(written, posters):
  dataset = storage.open_dataset(written)
  assert dataset.genres == tuple(sorted(synthetic.GENRES))
  examples = posters.collection.examples
  for name in ('train', 'validation', 'test'):
    expected = {e.id: e for e in examples if e.split == name}
    assert dataset.num_examples(name) == len(expected) > 0
    split = dataset.open_split(name)
    assert (len(split), split.num_genres) == (len(expected), 12)
    for index in range(len(split)):
      record = split[index]
      example = expected.pop(record.id)
      assert record.image == example.path.read_bytes()
      assert record.labels.dtype == np.float32
      assert list(record.labels) == [
        float(genre in example.genres) for genre in dataset.genres
      ]
    assert not expected


def test_the_prior_is_of_the_labels_in_train(written):
  dataset = storage.open_dataset(written)
  train = dataset.open_split('train')
  labels = np.stack([train[index].labels for index in range(len(train))])
  np.testing.assert_allclose(dataset.label_prior, labels.mean(0), rtol=1e-6)
  kinds, counts = np.unique(labels, axis=0, return_counts=True)
  assert sorted(dataset.combinations) == sorted(
    (tuple(np.flatnonzero(kind)), count)
    for kind, count in zip(kinds, counts, strict=True)
  )


def test_the_card_lies_beside_the_records_in_json_and_markdown(
  written, posters
):
  folder = storage.dataset_path(written)
  assert json.loads((folder / 'data_card.json').read_text()) == posters.card
  markdown = (folder / 'data_card.md').read_text()
  assert markdown == data_card.to_markdown(posters.card)
  assert not (folder / 'skipped.csv').exists()


def test_skipped_rows_are_listed_beside_the_records(posters, tmp_path):
  problem = problems.Problem('é.csv', 3, 'missing image', 'gone')
  skipped = dataclasses.replace(posters.collection, problems=(problem,))
  with writing.working_in(tmp_path) as partial:
    writing.write(
      skipped, card=posters.card, data_dir=tmp_path, partial=partial
    )
  listed = storage.dataset_path(tmp_path) / 'skipped.csv'
  assert listed.read_bytes().decode() == problems.to_csv([problem])


def test_records_can_be_read_from_threads(written):
  split = storage.open_dataset(written).open_split('train')
  indices = list(range(len(split))) * 4
  with futures.ThreadPoolExecutor(4) as pool:
    ids = list(pool.map(lambda index: split[index].id, indices))
  assert ids == [split[index].id for index in indices]


def test_writing_twice_does_nothing(posters, tmp_path):
  assert posters.write(tmp_path)
  path = storage.dataset_path(tmp_path) / 'digests.json'
  path.write_text('untouched')
  before = _files(tmp_path)
  assert not posters.write(tmp_path)
  assert _files(tmp_path) == before


def test_other_content_is_refused_and_what_is_there_is_kept(
  posters, others, tmp_path, written
):
  _copy(written, tmp_path)
  before = _files(tmp_path)
  with pytest.raises(errors.InputError) as error:
    others.write(tmp_path)
  message = str(error.value)
  assert f'{tmp_path} holds another data set' in message
  assert posters.card['fingerprint'] in message
  assert others.card['fingerprint'] in message
  assert '--overwrite' in message
  assert _files(tmp_path) == before


def test_overwrite_replaces_other_content(others, tmp_path, written):
  _copy(written, tmp_path)
  assert others.write(tmp_path, overwrite=True)
  _assert_holds(tmp_path, others)


def test_overwrite_mends_a_damaged_data_set(posters, tmp_path, written):
  folder = _copy(written, tmp_path)
  [records] = folder.glob('*train*')
  records.write_bytes(b'')
  assert posters.write(tmp_path, overwrite=True)
  _assert_holds(tmp_path, posters)


def test_a_folder_without_a_card_is_refused_until_overwrite(
  posters, tmp_path, written
):
  folder = _copy(written, tmp_path)
  (folder / 'data_card.json').unlink()
  _assert_holds_nothing(tmp_path)
  with pytest.raises(errors.InputError, match='no data set: .*--overwrite'):
    posters.write(tmp_path)
  assert posters.write(tmp_path, overwrite=True)
  _assert_holds(tmp_path, posters)


class _Interrupt(BaseException):
  """As KeyboardInterrupt, which pytest takes for its own."""


@pytest.mark.parametrize('error', [RuntimeError, _Interrupt])
def test_a_write_that_fails_midway_leaves_nothing(
  posters, tmp_path, monkeypatch, error
):
  reads = []

  def read(example):
    reads.append(example.id)
    if len(reads) == 4:
      raise error('midway')
    return example.path.read_bytes()

  monkeypatch.setattr(collection.Example, 'read', read)
  with pytest.raises(error, match='midway'):
    posters.write(tmp_path)
  assert _files(tmp_path) == {}
  _assert_holds_nothing(tmp_path)
  monkeypatch.undo()
  assert posters.write(tmp_path)
  _assert_holds(tmp_path, posters)


def test_an_image_that_changed_meanwhile_is_an_input_error(tmp_path):
  drawn = _Posters(tmp_path / 'drawn', 12)
  changed = drawn.collection.examples[7].path
  changed.write_bytes(b'other')
  with pytest.raises(errors.InputError, match=f'{changed} was changed'):
    drawn.write(tmp_path / 'data')
  assert _files(tmp_path / 'data') == {}


@pytest.mark.parametrize('step', ['records', 'card'])
def test_a_failed_overwrite_keeps_what_is_there(
  posters, others, tmp_path, monkeypatch, written, step
):
  _copy(written, tmp_path)
  before = _files(tmp_path)

  def fail(*args, **kwargs):
    raise _Interrupt

  if step == 'records':
    monkeypatch.setattr(collection.Example, 'read', fail)
  else:
    monkeypatch.setattr(data_card, 'to_markdown', fail)
  with pytest.raises(_Interrupt):
    others.write(tmp_path, overwrite=True)
  assert _files(tmp_path) == before
  _assert_holds(tmp_path, posters)


def test_an_overwrite_that_cannot_take_the_name_gives_it_back(
  posters, others, tmp_path, monkeypatch, written
):
  final = _copy(written, tmp_path)
  before = _files(tmp_path)
  rename = type(final).rename

  def rename_but_not_to_final(path, target):
    if epath.Path(target) == final and path.name == '1.0.0':
      raise OSError('no')
    return rename(path, target)

  monkeypatch.setattr(type(final), 'rename', rename_but_not_to_final)
  with pytest.raises(OSError, match='no'):
    others.write(tmp_path, overwrite=True)
  assert _files(tmp_path) == before
  _assert_holds(tmp_path, posters)


_WRITE_AND_HANG = """
import sys, time
from genre_flax.datasets.posters import build, collection, writing

def hang(*args, **kwargs):
  print('hangs', file=sys.__stdout__, flush=True)
  time.sleep(60)

class Reads(list):
  def read(self, example):
    self.append(example)
    return hang() if len(self) == 8 else example.path.read_bytes()

if sys.argv[2] == 'records':
  reads = Reads()
  collection.Example.read = lambda example: reads.read(example)
else:
  writing._publish = hang
build.build_synthetic(data_dir=sys.argv[1], num_posters=60)
"""


@pytest.mark.skipif(not hasattr(signal, 'SIGKILL'), reason='POSIX only')
@pytest.mark.parametrize('step', ['records', 'publish'])
def test_a_killed_write_leaves_nothing_that_reads_as_a_data_set(
  tmp_path, caplog, step
):
  with subprocess.Popen(
    [sys.executable, '-c', _WRITE_AND_HANG, str(tmp_path), step],
    cwd=paths.ROOT,
    stdout=subprocess.PIPE,
    text=True,
  ) as process:
    try:
      assert any(line == 'hangs\n' for line in process.stdout)
    finally:
      os.kill(process.pid, signal.SIGKILL)
  # It was in the middle of it.
  [partial] = (tmp_path / 'posters').iterdir()
  assert partial.name.startswith('incomplete.')
  whole = storage.dataset_path(partial) / 'digests.json'
  assert whole.exists() == (step == 'publish')
  _assert_holds_nothing(tmp_path)

  card = build.build_synthetic(data_dir=tmp_path, num_posters=60)
  dataset = storage.open_dataset(tmp_path)
  assert dataset.card == card
  lengths = [len(dataset.open_split(name)) for name in card['splits']]
  assert sum(lengths) == 60
  assert f'Removing {partial}' in caplog.text
  assert not partial.exists()


def test_of_two_writers_the_later_is_refused_and_changes_nothing(
  posters, others, tmp_path
):
  with writing.working_in(tmp_path) as partial:
    before = _files(tmp_path)
    with pytest.raises(errors.BusyError, match=rf'process {os.getpid()}\) wr'):
      others.write(tmp_path)
    assert partial.exists()
    assert _files(tmp_path) == before
    writing.write(
      posters.collection,
      card=posters.card,
      data_dir=tmp_path,
      partial=partial,
    )
  _assert_holds(tmp_path, posters)


def test_a_missing_data_set_is_told_with_how_to_make_one(tmp_path):
  with pytest.raises(errors.InputError) as error:
    storage.open_dataset(tmp_path / 'none')
  message = str(error.value)
  assert f'{tmp_path / "none"} holds no prepared data set' in message
  assert 'python -m genre_flax.prepare --csv=FILE' in message


def test_an_unknown_split_is_told_with_those_there_are(written):
  dataset = storage.open_dataset(written)
  with pytest.raises(errors.InputError) as error:
    dataset.open_split('dev')
  message = str(error.value)
  assert "no split 'dev'" in message
  assert "['train', 'validation', 'test']" in message


def _remove(name):
  return lambda folder: (folder / name).unlink()


def _truncate_records(folder):
  [records] = folder.glob('*train.array_record*')
  records.write_bytes(records.read_bytes()[:100000])


def _remove_records(folder):
  [records] = folder.glob('*train.array_record*')
  records.unlink()


def _shorten_the_info(folder):
  path = folder / 'dataset_info.json'
  info = json.loads(path.read_text())
  for split in info['splits']:
    split['shardLengths'] = ['1']
  path.write_text(json.dumps(info))


@pytest.mark.parametrize(
  ('damage', 'words'),
  [
    (_remove_records, 'train.* is missing'),
    (_truncate_records, 'train.* has 100,000 bytes, expected'),
    (_remove('dataset_info.json'), 'dataset_info.json is missing'),
    (_remove('features.json'), 'features.json is missing'),
    (_remove('genres.labels.txt'), 'genres.labels.txt is missing'),
    (_shorten_the_info, 'dataset_info.json has .* bytes, expected'),
  ],
)
def test_damaged_files_are_told_with_the_remedy(
  written, tmp_path, damage, words
):
  damage(_copy(written, tmp_path))
  with pytest.raises(errors.DamageError) as error:
    storage.open_dataset(tmp_path).open_split('train')
  assert re.search(words, str(error.value))
  assert 'Run prepare again with --overwrite' in str(error.value)


@pytest.mark.parametrize(
  ('damage', 'words'),
  [
    (_remove_records, 'Record 0 of .*train.* cannot be read'),
    (_truncate_records, 'Record 0 of .*train.* cannot be read'),
    (_remove('dataset_info.json'), "The split 'train' in .* is damaged"),
    (_shorten_the_info, 'has 1 records; its data card says'),
  ],
)
def test_damage_to_a_data_set_of_earlier_versions_is_told_too(
  written, tmp_path, damage, words
):
  damage(_without_digests(_copy(written, tmp_path)))
  with pytest.raises(errors.DamageError) as error:
    storage.open_dataset(tmp_path).open_split('train')
  assert re.search(words, str(error.value))


def _without_digests(folder):
  """Makes it a data set of before there were any."""
  (folder / 'digests.json').unlink()
  card = json.loads((folder / 'data_card.json').read_text())
  del card['digests']
  (folder / 'data_card.json').write_text(json.dumps(card))
  return folder


def test_a_data_set_of_earlier_versions_is_read_and_said_to_be_unverified(
  written, tmp_path, caplog
):
  _without_digests(_copy(written, tmp_path))
  assert len(storage.open_dataset(tmp_path).open_split('train'))
  assert 'read unverified' in caplog.text


def test_without_its_list_of_digests_a_data_set_is_damaged(written, tmp_path):
  (_copy(written, tmp_path) / 'digests.json').unlink()
  with pytest.raises(errors.DamageError, match=r'digests\.json is missing'):
    storage.open_dataset(tmp_path)


def test_a_flipped_bit_in_a_record_is_found_where_it_is_asked_for(
  written, tmp_path
):
  [records] = _copy(written, tmp_path).glob('*train.array_record*')
  content = bytearray(records.read_bytes())
  content[len(content) // 2] ^= 4
  records.write_bytes(content)
  dataset = storage.open_dataset(tmp_path)
  with pytest.raises(errors.DamageError, match='does not fit its digest'):
    dataset.open_split('train', check_records=True)
  split = dataset.open_split('train')  # Sizes and headers are as they were.
  with pytest.raises(
    errors.DamageError, match=rf'Record \d+ of {records} cannot be read'
  ):
    for index in range(len(split)):
      split[index]


def test_a_damaged_card_is_told_with_the_remedy(written, tmp_path):
  path = _copy(written, tmp_path) / 'data_card.json'
  path.write_text(path.read_text()[:100])
  with pytest.raises(errors.InputError, match=r'is damaged: .*--overwrite'):
    storage.open_dataset(tmp_path)


@pytest.mark.parametrize('below', ['', 'data', 'data/deep'])
def test_a_data_dir_that_is_a_file_is_refused(tmp_path, below):
  file = epath.Path(tmp_path) / 'file'
  file.write_text('')
  with (
    pytest.raises(errors.InputError) as error,
    writing.working_in(file / below),
  ):
    pass
  assert f'{file} is a file; expected a folder' in str(error.value)
