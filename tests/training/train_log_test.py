import logging

import jax.numpy as jnp
import pytest

from genre_flax import config as config_lib
from genre_flax.runtime import metric_writer
from genre_flax.training import train_log
from tests.support import helpers


class Clock:
  """A clock that a test turns by hand."""

  def __init__(self):
    self.now = 100.0

  def monotonic(self):
    return self.now


@pytest.fixture
def clock(monkeypatch):
  clock = Clock()
  monkeypatch.setattr(train_log, 'time', clock)
  return clock


@pytest.fixture
def log(tmp_path, clock):
  config = helpers.tiny_config('data', num_train_steps=10, batch_size=16)
  schedule = config_lib.make_schedule(
    config, num_train_examples=160, num_hosts=1, num_devices=1
  )
  writer = metric_writer.MetricWriter(tmp_path, start_step=0, tensorboard=False)
  log = train_log.TrainLog(
    schedule, writer, start_step=0, log_every=4, is_active=True
  )
  yield log
  log.close()


def values(loss, count=16.0):
  return {
    'loss': jnp.asarray(loss),
    'count': jnp.asarray(count),
    'learning_rate': jnp.asarray(0.5),
    'gradient_norm': jnp.asarray(2.0),
  }


def test_a_report_covers_the_steps_since_the_last(log, clock, tmp_path, caplog):
  caplog.set_level(logging.INFO)
  for step in range(1, 5):
    with log.waiting_for_input():
      clock.now += 0.5
    clock.now += 1.5
    log.add(step, values(16.0 * step))
  (line,) = metric_writer.read(tmp_path)
  # Of this process; it has tens of megabytes at least.
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


def test_pauses_are_left_out_of_the_rates(log, clock, tmp_path):
  for step in range(1, 5):
    clock.now += 1.0
    if step == 2:
      with log.paused():
        clock.now += 60.0
    log.add(step, values(1.0))
  (line,) = metric_writer.read(tmp_path)
  assert line['images_per_second'] == 16.0


def test_the_last_step_is_reported_even_between_two_periods(
  log, clock, tmp_path
):
  for step in range(1, 11):
    clock.now += 1.0
    log.add(step, values(float(step)))
  lines = metric_writer.read(tmp_path)
  assert [line['step'] for line in lines] == [4, 8, 10]
  assert lines[-1]['loss'] == pytest.approx((9 + 10) / 32)


def test_values_are_checked_before_they_are_reported(log, clock):
  clock.now += 1.0
  log.add(1, values(1.0))
  log.add(2, {**values(1.0), 'gradient_norm': jnp.asarray(jnp.inf)})
  log.add(3, values(1.0))
  with pytest.raises(
    train_log.NonFiniteError, match='Step 2: gradient_norm is inf'
  ):
    log.check()
