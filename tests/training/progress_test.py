"""Tests of genre_flax/training/progress.py."""

import logging
import types

import jax.numpy as jnp
import pytest

from genre_flax import config as config_lib
from genre_flax.runtime import errors
from genre_flax.runtime import metric_writer
from genre_flax.training import progress as progress_lib
from tests.support import helpers


@pytest.fixture
def clock(monkeypatch):
  """A clock that tests advance."""
  clock = types.SimpleNamespace(now=100.0, monotonic=lambda: clock.now)
  monkeypatch.setattr(progress_lib, 'time', clock)
  return clock


@pytest.fixture
def progress(tmp_path, clock):
  config = helpers.tiny_config('data', num_train_steps=10, batch_size=16)
  sizes = config_lib.compute_sizes(
    config, num_train_examples=160, num_devices=1
  )
  writer = metric_writer.MetricWriter(tmp_path, start_step=0, tensorboard=False)
  progress = progress_lib.Progress(
    sizes, writer, start_step=0, log_every=4, is_active=True
  )
  yield progress
  progress.close()


def values(loss, count=16.0):
  return {
    'loss': jnp.asarray(loss),
    'count': jnp.asarray(count),
    'learning_rate': jnp.asarray(0.5),
    'gradient_norm': jnp.asarray(2.0),
  }


def test_report_covers_the_steps_since_the_previous_one(
  progress, clock, tmp_path, caplog
):
  caplog.set_level(logging.INFO)
  for step in range(1, 5):
    with progress.waiting_for_input():
      clock.now += 0.5
    clock.now += 1.5
    progress.add(step, values(16.0 * step))
  (line,) = metric_writer.read(tmp_path)
  # Of this process: at least tens of megabytes.
  assert 0.03 < line.pop('peak_memory_gb') < 1000
  assert line == {
    'step': 4,
    'split': 'train',
    'loss': 2.5,
    'learning_rate': 0.5,
    'gradient_norm': 2.0,
    'images_per_second': 4 * 16 / 8.0,
    'input_wait_share': 0.25,
  }
  # Six steps of two seconds are left.
  assert 'step 4/10 (epoch 0.40)  loss 2.5000' in caplog.text
  assert 'input wait 25.0%  ETA 0:00:12' in caplog.text


def test_rates_exclude_pauses(progress, clock, tmp_path):
  for step in range(1, 5):
    clock.now += 1.0
    if step == 2:
      with progress.paused():
        clock.now += 60.0
    progress.add(step, values(1.0))
  (line,) = metric_writer.read(tmp_path)
  assert line['images_per_second'] == 16.0


def test_last_step_is_reported(progress, clock, tmp_path):
  for step in range(1, 11):
    clock.now += 1.0
    progress.add(step, values(float(step)))
  lines = metric_writer.read(tmp_path)
  assert [line['step'] for line in lines] == [4, 8, 10]
  assert lines[-1]['loss'] == pytest.approx((9 + 10) / 32)


def test_further_sums_are_logged_and_kept(progress, clock, tmp_path, caplog):
  caplog.set_level(logging.INFO)
  for step in range(1, 6):
    clock.now += 1.0
    progress.add(step, {'auxiliary': jnp.asarray(8.0 * step), **values(16.0)})
  progress.check()
  (line,) = metric_writer.read(tmp_path)
  assert line['auxiliary'] == (8 + 16 + 24 + 32) / 64
  assert 'loss 1.0000  auxiliary 1.2500  lr' in caplog.text
  assert progress.sums == {'loss': 16.0, 'auxiliary': 40.0, 'count': 16.0}


def test_a_validation_loss_that_is_not_finite_raises(progress):
  with pytest.raises(
    errors.DivergedError, match='Step 3: the loss of dev is n'
  ):
    progress.validation(3, 'dev', {'loss': float('nan')}, best_metric='loss')


def test_non_finite_values_raise_with_their_step_and_batch(
  progress, clock, tmp_path
):
  progress._batch_examples = lambda step: [(step, 'tt1'), (7, 'tt\x1b')]
  clock.now += 1.0
  progress.add(1, values(1.0))
  broken = {'auxiliary': jnp.asarray(-jnp.inf), **values(jnp.nan)}
  progress.add(2, {**broken, 'gradient_norm': jnp.asarray(jnp.inf)})
  progress.add(3, values(1.0))
  with pytest.raises(errors.DivergedError) as e:
    progress.check()
  assert str(e.value).startswith(
    'Step 2: loss is nan, auxiliary is -inf, gradient_norm is inf. '
  )
  listed = r'1 (tt1), 7 (tt\x1b). `python -m genre_flax.inspect --step=1`'
  assert listed in str(e.value)
  (line,) = metric_writer.read(tmp_path)
  broken = dict.fromkeys(('loss', 'auxiliary', 'gradient_norm'))
  assert line == {'step': 2, 'split': 'train', **broken}
