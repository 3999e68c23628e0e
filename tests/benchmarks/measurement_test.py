import json
import sys

import numpy as np
import pytest

from benchmarks import measurement
from benchmarks import runner
from genre_flax.runtime import errors


def make_spec(library='torch', name='step', **fields):
  config = {
    'batch_size': 8,
    'model': {'name': 'resnet'},
    'dataset': {'train_split': 'train'},
  }
  return measurement.Spec(library, name, config=config, **fields)


def test_networks_of_different_sizes_are_refused():
  spec = make_spec(num_parameters=1_169_017)
  spec.check_parameters(1_169_017)
  with pytest.raises(
    errors.InputError,
    match='1,169,016 parameters in torch and 1,169,017 in genre_flax',
  ):
    spec.check_parameters(1_169_016)


def test_files_are_repeated_up_to_the_number_of_examples(tmp_path):
  np.save(tmp_path / 'train.npy', np.float32([[0, 1], [1, 1]]))
  spec = make_spec(num_examples={'train': 3}, files=str(tmp_path))
  paths, labels = spec.read_split('train_split')
  assert paths == [
    str(tmp_path / 'train' / f'0000{index}.jpg') for index in (0, 1, 0)
  ]
  assert labels.tolist() == [[0, 1], [1, 1], [0, 1]]


def respond(monkeypatch, function):
  spec = {'library': 'torch', 'measurement': 'step'}
  monkeypatch.setattr(sys, 'argv', ['module', json.dumps(spec)])
  measurement.respond({'step': function}, platform=lambda: 'cpu')


def test_result_is_the_last_line(monkeypatch, capsys):
  def step(spec):
    print('output of a library', end='')
    return {'library': spec.library}

  respond(monkeypatch, step)
  last = capsys.readouterr().out.splitlines()[-1]
  assert json.loads(last) == {'platform': 'cpu', 'library': 'torch'}


def test_input_error_is_the_last_line_and_a_status(monkeypatch, capsys):
  def step(spec):
    raise errors.InputError('too small\nby far')

  with pytest.raises(SystemExit) as exit_info:
    respond(monkeypatch, step)
  assert exit_info.value.code == errors.InputError.exit_status
  last = capsys.readouterr().out.splitlines()[-1]
  assert json.loads(last) == 'too small\nby far'


@pytest.mark.slow
def test_failed_process_is_an_error_with_its_last_lines():
  with pytest.raises(RuntimeError, match='unknown(.|\n)*KeyError'):
    runner.run('benchmarks.data', make_spec(name='unknown'))


class Clock:
  def __init__(self, monkeypatch):
    self.now = 0.0
    monkeypatch.setattr(measurement.time, 'perf_counter', lambda: self.now)

  def advance(self, seconds):
    self.now += seconds


def test_rates_exclude_the_first_step_and_the_warm_up(monkeypatch):
  clock = Clock(monkeypatch)
  waited = []

  def make_step(*durations):
    remaining = iter(durations)

    def step():
      clock.advance(next(remaining))
      return clock.now

    return step

  rates = measurement.time_training_and_inference(
    make_spec(num_steps=3),
    train=make_step(10.0, 7.0, 7.0, 1.0, 2.0, 3.0),
    infer=make_step(*[0.5] * 6),
    wait=waited.append,
  )
  # 3 steps in 6 s; the first one took 10 s, 8 s longer than the mean of 2 s.
  assert rates == {
    'training_images_per_second': 4.0,
    'inference_images_per_second': 16.0,
    'compile_seconds': 8.0,
  }
  assert waited[:6] == [10, 17, 24, 25, 27, 30]


def test_input_rate_excludes_the_first_batches(monkeypatch):
  clock = Clock(monkeypatch)

  def batches():
    for index in range(20):
      clock.advance(5.0 if index < 8 else 0.5)
      yield index

  spec = make_spec(num_examples={'train': 18 * 8})
  # 10 batches of 8 in 5 s.
  assert measurement.time_batches(batches(), spec) == {
    'images_per_second': 16.0
  }


def test_libraries_alternate(monkeypatch):
  modules = []

  def run(module, spec):
    modules.append(module)
    return {'number': len(modules)}

  monkeypatch.setattr(runner, 'run', run)
  results, failures = runner.run_all(
    [make_spec('genre_flax'), make_spec('torch', variant='float32')],
    num_repetitions=2,
  )
  assert (
    modules == ['benchmarks.measure_genre_flax', 'benchmarks.measure_torch'] * 2
  )
  assert not failures
  assert results[3] == {
    'library': 'torch',
    'variant': 'float32',
    'measurement': 'step',
    'repetition': 1,
    'values': {'number': 4},
  }


@pytest.mark.parametrize('failing', ['torch', 'genre_flax'])
def test_only_other_libraries_may_fail(monkeypatch, failing):
  def run(module, spec):
    if spec.library == failing:
      raise RuntimeError('out of memory')
    return {'number': 1}

  monkeypatch.setattr(runner, 'run', run)
  specs = [make_spec('genre_flax'), make_spec('torch', variant='a')]
  if failing == 'genre_flax':
    with pytest.raises(RuntimeError, match='out of memory'):
      runner.run_all(specs, num_repetitions=2)
    return
  results, failures = runner.run_all(specs, num_repetitions=2)
  assert [result['library'] for result in results] == ['genre_flax'] * 2
  assert failures == {'torch (a), step': 'out of memory'}
