"""Tests of writing datasets atomically."""

import os

from etils import epath
import pytest

from genre_flax.datasets.posters import collection
from genre_flax.datasets.posters import data_card
from genre_flax.datasets.posters import storage
from genre_flax.datasets.posters import writing
from genre_flax.runtime import errors
from tests.support import prepared


def test_writing_twice_changes_nothing(posters, tmp_path):
  assert posters.write(tmp_path)
  (storage.dataset_path(tmp_path) / 'data_card.md').write_text('untouched')
  before = prepared.files(tmp_path)
  assert not posters.write(tmp_path)
  assert prepared.files(tmp_path) == before


def test_progress_ends_at_the_number_of_records(posters, tmp_path):
  completed = []

  def progress(items, total, description):
    yield from items
    completed.append((description.partition(' ')[2], total))

  posters.write(tmp_path, progress=progress)
  splits = posters.card['splits'].items()
  assert completed == [(name, each['num_examples']) for name, each in splits]


def test_another_dataset_is_replaced_with_overwrite_only(
  posters, others, tmp_path, written
):
  prepared.copy(written, tmp_path)
  before = prepared.files(tmp_path)
  with pytest.raises(errors.InputError, match='another dataset.*--overwrite'):
    others.write(tmp_path)
  assert prepared.files(tmp_path) == before
  assert others.write(tmp_path, overwrite=True)
  prepared.assert_contains(tmp_path, others)


def test_overwrite_repairs_a_damaged_dataset(posters, tmp_path, written):
  folder = prepared.copy(written, tmp_path)
  (folder / 'data_card.json').unlink()
  prepared.assert_no_dataset(tmp_path)
  with pytest.raises(
    errors.InputError, match='missing or damaged.*--overwrite'
  ):
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


def test_files_of_a_killed_process_are_deleted(posters, tmp_path):
  left = tmp_path / 'posters' / 'incomplete.1'
  (left / 'posters' / '1.0.0').mkdir(parents=True)
  prepared.assert_no_dataset(tmp_path)
  assert posters.write(tmp_path)
  assert not left.exists()
  prepared.assert_contains(tmp_path, posters)


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
    pytest.raises(errors.InputError, match=f'{file} is a file; expected'),
    writing.scratch_folder(file / below),
  ):
    pass
