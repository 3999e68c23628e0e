import sys
import time
import types

import pytest

from genre_flax.runtime import errors
from genre_flax.runtime import metric_writer


def write(workdir, **options):
  writer = metric_writer.MetricWriter(
    workdir, **{'start_step': 0, 'tensorboard': False, **options}
  )
  for step in (1, 2):
    writer.write(step, 'train', {'loss': 0.5 * step})
  writer.close()


class FailingRun:
  def __init__(self, failures):
    self.failures, self.calls = failures, []

  def __getattr__(self, name):
    def call(*args, **kwargs):
      self.calls.append(name)
      if name in self.failures:
        raise ConnectionError(f'no network for {name}')

    return call


@pytest.mark.parametrize('failing', ['init', 'log', 'finish'])
def test_a_logger_that_fails_is_disabled_with_a_warning(
  tmp_path, monkeypatch, caplog, failing
):
  run = FailingRun([failing])

  def init(**kwargs):
    run.init()
    return run

  wandb = types.SimpleNamespace(init=init, Settings=dict)
  monkeypatch.setitem(sys.modules, 'wandb', wandb)
  write(tmp_path, wandb='genres')
  assert 'wandb failed and is disabled: ConnectionError: no net' in caplog.text
  assert run.calls.count(failing) == 1
  assert [line['loss'] for line in metric_writer.read(tmp_path)] == [0.5, 1.0]


def test_a_tensorboard_folder_that_cannot_be_written_is_a_warning(
  tmp_path, caplog
):
  (tmp_path / 'tensorboard').write_text('a file')
  write(tmp_path, tensorboard=True)
  assert 'TensorBoard failed and is disabled' in caplog.text
  assert len(metric_writer.read(tmp_path)) == 2


def test_a_missing_extra_is_an_input_error(tmp_path, monkeypatch):
  monkeypatch.setitem(sys.modules, 'wandb', None)
  with pytest.raises(errors.InputError, match=r"pip install -e '.\[wandb\]'"):
    write(tmp_path, wandb='genres')


@pytest.mark.filterwarnings('default')
def test_wandb_logs_offline_and_continues_its_run(tmp_path, monkeypatch):
  pytest.importorskip('wandb')
  monkeypatch.setenv('WANDB_MODE', 'offline')
  config = {'batch_size': 64}
  for _ in range(2):
    write(tmp_path, wandb='genres', config=config)
  run_id = (tmp_path / 'wandb_id').read_text()
  runs = list((tmp_path / 'wandb').glob(f'**/run-{run_id}.wandb'))
  assert len(runs) == 2
  end = time.monotonic() + 60  # wandb's own process writes the files.
  while not all(b'train/loss' in run.read_bytes() for run in runs):
    assert time.monotonic() < end
    time.sleep(0.1)
  assert len(metric_writer.read(tmp_path)) == 2
