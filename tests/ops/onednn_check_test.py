"""Another process tries oneDNN's operations, once for each CPU."""

import shutil

import pytest

from genre_flax.ops.cpu import onednn
from genre_flax.ops.cpu import onednn_check as onednn_trial


@pytest.fixture
def folder(tmp_path, monkeypatch):
  monkeypatch.setenv('XDG_CACHE_HOME', str(tmp_path))
  onednn_trial.failure.cache_clear()
  yield tmp_path / 'genre_flax' / 'onednn'
  onednn_trial.failure.cache_clear()


@pytest.mark.parametrize('dtype', ['float32', 'bfloat16'])
def test_a_verdict_is_kept(dtype, folder, monkeypatch):
  if not onednn._is_in_jaxlib():
    pytest.skip('oneDNN is not used with this jaxlib, or on this machine')
  if dtype == 'bfloat16' and not onednn_trial._has_bfloat16():
    pytest.skip('this CPU has no instructions for bfloat16')
  first = onednn_trial.failure(dtype)
  (path,) = folder.iterdir()
  assert path.read_text() == (first or 'works')

  def never(dtype):
    raise AssertionError(dtype)

  monkeypatch.setattr(onednn_trial, '_try_elsewhere', never)
  onednn_trial.failure.cache_clear()
  assert onednn_trial.failure(dtype) == first


@pytest.mark.parametrize(
  'flags, has_it',
  [
    ('avx512f amx_tile amx_bf16', True),
    ('avx512f avx512_bf16', True),
    ('avx512f avx512_vnni', False),
  ],
)
def test_bfloat16_is_for_cpus_with_instructions_for_it(
  flags, has_it, folder, monkeypatch
):
  monkeypatch.setattr(onednn_trial, '_cpu', lambda: [f'flags\t\t: {flags}'])
  monkeypatch.setattr(
    onednn_trial, '_try_elsewhere', lambda dtype: ('works', True)
  )
  assert onednn_trial.failure('float32') == ''
  assert ('AMX' in onednn_trial.failure('bfloat16')) == (not has_it)


def test_an_operation_that_fails_is_not_used(
  folder, monkeypatch, without_cache
):
  # A process that ends as one does by a wrong instruction.
  monkeypatch.setattr(onednn_trial.sys, 'executable', shutil.which('false'))
  monkeypatch.setattr(onednn, '_is_in_jaxlib', lambda: True)
  assert not onednn.is_available()
  assert onednn.describe() == (
    "XLA's own, which train at about half the speed: a trial of oneDNN in"
    ' float32 failed on this CPU: exit code 1'
  )
  assert len(list(folder.iterdir())) == 1


@pytest.mark.parametrize('signal', ['KILL', 'ILL'])
def test_a_trial_that_was_ended_from_outside_is_tried_again(
  folder, tmp_path, monkeypatch, signal
):
  program = tmp_path / 'program'
  program.write_text(f'#!/bin/sh\nkill -{signal} $$\n')
  program.chmod(0o755)
  monkeypatch.setattr(onednn_trial.sys, 'executable', str(program))
  assert 'failed on this CPU: exit code -' in onednn_trial.failure('float32')
  assert folder.exists() == (signal == 'ILL')


def test_a_trial_that_does_not_end_is_tried_again(
  folder, tmp_path, monkeypatch
):
  program = tmp_path / 'program'
  program.write_text('#!/bin/sh\nexec sleep 60\n')
  program.chmod(0o755)
  monkeypatch.setattr(onednn_trial.sys, 'executable', str(program))
  monkeypatch.setattr(onednn_trial, '_TIMEOUT_SECONDS', 0.2)
  assert 'did not end: TimeoutExpired' in onednn_trial.failure('float32')
  assert not folder.exists()


@pytest.mark.parametrize('stored', [b'', b'\xff\xfe'])
def test_a_damaged_verdict_is_none_that_it_works(folder, monkeypatch, stored):
  path = onednn_trial._path('float32')
  path.parent.mkdir(parents=True)
  path.write_bytes(stored)
  monkeypatch.setattr(
    onednn_trial, '_try_elsewhere', lambda dtype: ('tried again', True)
  )
  expected = 'tried again' if not stored else '\ufffd\ufffd'
  assert onednn_trial.failure('float32') == expected


def test_wrong_numbers_are_a_failure(monkeypatch, without_cache):
  if not onednn._is_in_jaxlib():
    pytest.skip('oneDNN is not used with this jaxlib, or on this machine')
  monkeypatch.setattr(onednn, 'matmul', lambda a, b, **_: a @ b + 1)
  with pytest.raises(AssertionError, match='Mismatched'):
    onednn_trial._try_here('float32')


def test_without_a_cache_folder_it_is_tried_again(monkeypatch, tmp_path):
  (tmp_path / 'file').write_text('')
  monkeypatch.setenv('XDG_CACHE_HOME', str(tmp_path / 'file'))
  onednn_trial.failure.cache_clear()
  monkeypatch.setattr(
    onednn_trial, '_try_elsewhere', lambda dtype: ('works', True)
  )
  assert onednn_trial.failure('float32') == ''
  onednn_trial.failure.cache_clear()
