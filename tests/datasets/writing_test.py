"""Tests of writing data sets: whole or not at all."""

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


def test_skipped_rows_are_listed_beside_the_records(posters, tmp_path):
  problem = problems.Problem('é.csv', 3, 'missing image', 'gone')
  skipped = dataclasses.replace(posters.collection, problems=(problem,))
  with writing.working_in(tmp_path) as partial:
    writing.write(
      skipped, card=posters.card, data_dir=tmp_path, partial=partial
    )
  listed = storage.dataset_path(tmp_path) / 'skipped.csv'
  assert listed.read_bytes().decode() == problems.to_csv([problem])


def test_writing_twice_does_nothing(posters, tmp_path):
  assert posters.write(tmp_path)
  path = storage.dataset_path(tmp_path) / 'digests.json'
  path.write_text('untouched')
  before = prepared.files(tmp_path)
  assert not posters.write(tmp_path)
  assert prepared.files(tmp_path) == before


def test_other_content_is_refused_and_what_is_there_is_kept(
  posters, others, tmp_path, written
):
  prepared.copy(written, tmp_path)
  before = prepared.files(tmp_path)
  with pytest.raises(errors.InputError) as error:
    others.write(tmp_path)
  message = str(error.value)
  assert f'{tmp_path} holds another data set' in message
  assert posters.card['fingerprint'] in message
  assert others.card['fingerprint'] in message
  assert '--overwrite' in message
  assert prepared.files(tmp_path) == before


def test_overwrite_replaces_other_content(others, tmp_path, written):
  prepared.copy(written, tmp_path)
  assert others.write(tmp_path, overwrite=True)
  prepared.assert_holds(tmp_path, others)


def test_overwrite_mends_a_damaged_data_set(posters, tmp_path, written):
  folder = prepared.copy(written, tmp_path)
  [records] = folder.glob('*train*')
  records.write_bytes(b'')
  assert posters.write(tmp_path, overwrite=True)
  prepared.assert_holds(tmp_path, posters)


def test_a_folder_without_a_card_is_refused_until_overwrite(
  posters, tmp_path, written
):
  folder = prepared.copy(written, tmp_path)
  (folder / 'data_card.json').unlink()
  prepared.assert_holds_nothing(tmp_path)
  with pytest.raises(errors.InputError, match='no data set: .*--overwrite'):
    posters.write(tmp_path)
  assert posters.write(tmp_path, overwrite=True)
  prepared.assert_holds(tmp_path, posters)


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
  assert prepared.files(tmp_path) == {}
  prepared.assert_holds_nothing(tmp_path)
  monkeypatch.undo()
  assert posters.write(tmp_path)
  prepared.assert_holds(tmp_path, posters)


def test_an_image_that_changed_meanwhile_is_an_input_error(tmp_path):
  drawn = prepared.Posters(tmp_path / 'drawn', 12)
  changed = drawn.collection.examples[7].path
  changed.write_bytes(b'other')
  with pytest.raises(errors.InputError, match=f'{changed} was changed'):
    drawn.write(tmp_path / 'data')
  assert prepared.files(tmp_path / 'data') == {}


@pytest.mark.parametrize('step', ['records', 'card'])
def test_a_failed_overwrite_keeps_what_is_there(
  posters, others, tmp_path, monkeypatch, written, step
):
  prepared.copy(written, tmp_path)
  before = prepared.files(tmp_path)

  def fail(*args, **kwargs):
    raise _Interrupt

  if step == 'records':
    monkeypatch.setattr(collection.Example, 'read', fail)
  else:
    monkeypatch.setattr(data_card, 'to_markdown', fail)
  with pytest.raises(_Interrupt):
    others.write(tmp_path, overwrite=True)
  assert prepared.files(tmp_path) == before
  prepared.assert_holds(tmp_path, posters)


def test_an_overwrite_that_cannot_take_the_name_gives_it_back(
  posters, others, tmp_path, monkeypatch, written
):
  final = prepared.copy(written, tmp_path)
  before = prepared.files(tmp_path)
  replace = os.replace

  def replace_but_not_final(source, target):
    if epath.Path(target) == final and epath.Path(source).name == '1.0.0':
      raise OSError('no')
    replace(source, target)

  monkeypatch.setattr(os, 'replace', replace_but_not_final)
  with pytest.raises(OSError, match='no'):
    others.write(tmp_path, overwrite=True)
  assert prepared.files(tmp_path) == before
  prepared.assert_holds(tmp_path, posters)


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
  prepared.assert_holds_nothing(tmp_path)

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
    before = prepared.files(tmp_path)
    with pytest.raises(errors.BusyError, match=rf'process {os.getpid()}\) wr'):
      others.write(tmp_path)
    assert partial.exists()
    assert prepared.files(tmp_path) == before
    writing.write(
      posters.collection,
      card=posters.card,
      data_dir=tmp_path,
      partial=partial,
    )
  prepared.assert_holds(tmp_path, posters)
