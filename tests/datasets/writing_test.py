"""Tests of writing datasets atomically."""

import dataclasses
import os
import signal
import subprocess
import sys

from etils import epath
import pytest

from genre_flax.datasets.posters import build
from genre_flax.datasets.posters import collection
from genre_flax.datasets.posters import data_card
from genre_flax.datasets.posters import problems
from genre_flax.datasets.posters import storage
from genre_flax.datasets.posters import writing
from genre_flax.runtime import errors
from tests.support import paths
from tests.support import prepared


def test_skipped_rows_are_listed(posters, tmp_path):
  problem = problems.Problem('é.csv', 3, 'missing image', 'gone')
  skipped = dataclasses.replace(posters.collection, problems=(problem,))
  with writing.scratch_folder(tmp_path) as scratch:
    writing.write(
      skipped, card=posters.card, data_dir=tmp_path, scratch=scratch
    )
  path = storage.dataset_path(tmp_path) / 'skipped.csv'
  assert path.read_bytes().decode() == problems.to_csv([problem])


def test_writing_twice_changes_nothing(posters, tmp_path):
  assert posters.write(tmp_path)
  (storage.dataset_path(tmp_path) / 'data_card.md').write_text('untouched')
  before = prepared.files(tmp_path)
  assert not posters.write(tmp_path)
  assert prepared.files(tmp_path) == before


def test_another_dataset_is_replaced_with_overwrite_only(
  posters, others, tmp_path, written
):
  prepared.copy(written, tmp_path)
  before = prepared.files(tmp_path)
  with pytest.raises(errors.InputError) as error:
    others.write(tmp_path)
  message = str(error.value)
  assert f'{tmp_path} contains another dataset' in message
  assert posters.card['fingerprint'] in message
  assert others.card['fingerprint'] in message
  assert '--overwrite' in message
  assert prepared.files(tmp_path) == before
  assert others.write(tmp_path, overwrite=True)
  prepared.assert_contains(tmp_path, others)


def test_overwrite_repairs_a_damaged_dataset(posters, tmp_path, written):
  folder = prepared.copy(written, tmp_path)
  (folder / 'data_card.json').unlink()
  prepared.assert_no_dataset(tmp_path)
  with pytest.raises(errors.InputError, match='not a dataset: .*--overwrite'):
    posters.write(tmp_path)
  assert posters.write(tmp_path, overwrite=True)
  prepared.assert_contains(tmp_path, posters)


class _Interrupt(BaseException):
  """Like KeyboardInterrupt, which would end pytest."""


@pytest.mark.parametrize('error', [RuntimeError, _Interrupt])
def test_an_interrupted_write_leaves_no_files(
  posters, tmp_path, monkeypatch, error
):
  reads = []

  def read(example):
    reads.append(example.id)
    if len(reads) == 4:
      raise error('interrupted')
    return example.path.read_bytes()

  monkeypatch.setattr(collection.Example, 'read', read)
  with pytest.raises(error, match='interrupted'):
    posters.write(tmp_path)
  assert prepared.files(tmp_path) == {}
  prepared.assert_no_dataset(tmp_path)


@pytest.mark.parametrize(
  ('target', 'name'),
  [
    (collection.Example, 'read'),
    (data_card, 'to_markdown'),
    (writing.files, 'rename_folder'),
  ],
)
def test_a_failed_overwrite_keeps_the_existing_dataset(
  posters, others, tmp_path, monkeypatch, written, target, name
):
  prepared.copy(written, tmp_path)
  before = prepared.files(tmp_path)

  def fail(*args, **kwargs):
    raise _Interrupt

  monkeypatch.setattr(target, name, fail)
  with pytest.raises(_Interrupt):
    others.write(tmp_path, overwrite=True)
  assert prepared.files(tmp_path) == before
  prepared.assert_contains(tmp_path, posters)


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
  writing.files.rename_folder = hang
build.build_synthetic(data_dir=sys.argv[1], num_posters=60)
"""


@pytest.mark.skipif(not hasattr(signal, 'SIGKILL'), reason='POSIX only')
@pytest.mark.parametrize('step', ['records', 'rename'])
def test_a_killed_write_leaves_no_dataset(tmp_path, caplog, step):
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
  [scratch] = (tmp_path / 'posters').iterdir()
  assert scratch.name.startswith('incomplete.')
  complete = storage.dataset_path(scratch) / 'checksums.json'
  assert complete.exists() == (step == 'rename')
  prepared.assert_no_dataset(tmp_path)

  card = build.build_synthetic(data_dir=tmp_path, num_posters=60)
  dataset = storage.open_dataset(tmp_path)
  assert dataset.card == card
  lengths = [len(dataset.open_split(name)) for name in card['splits']]
  assert sum(lengths) == 60
  assert f'Deleting {scratch}' in caplog.text
  assert not scratch.exists()


def test_a_second_writer_is_refused(posters, others, tmp_path):
  with writing.scratch_folder(tmp_path) as scratch:
    before = prepared.files(tmp_path)
    with pytest.raises(errors.BusyError, match=rf'process {os.getpid()}\) wr'):
      others.write(tmp_path)
    assert scratch.exists()
    assert prepared.files(tmp_path) == before
    writing.write(
      posters.collection,
      card=posters.card,
      data_dir=tmp_path,
      scratch=scratch,
    )
  prepared.assert_contains(tmp_path, posters)


@pytest.mark.parametrize('below', ['', 'data', 'data/deep'])
def test_a_data_dir_that_is_a_file_is_refused(tmp_path, below):
  file = epath.Path(tmp_path) / 'file'
  file.write_text('')
  with (
    pytest.raises(errors.InputError) as error,
    writing.scratch_folder(file / below),
  ):
    pass
  assert f'{file} is a file; expected a folder' in str(error.value)
