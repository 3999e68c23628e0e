import json
import sys

import numpy as np
import pytest

from benchmarks import child
from benchmarks import measure
from benchmarks import processes
from configs import default
from genre_flax import config as config_lib
from genre_flax.runtime import errors


def spec_of(**changes):
  config = default.get_config()
  with config.unlocked():
    config.update_from_flattened_dict(changes)
  return child.Spec(
    contender='torch',
    measurement='step',
    config=config_lib.to_dict(config),
    num_parameters=1_169_017,
  )


def test_another_number_of_parameters_is_an_error():
  spec = spec_of()
  spec.check_parameters(1_169_017)
  with pytest.raises(
    errors.InputError,
    match='resnet of torch has 1,169,016 .* genre_flax 1,169,017',
  ):
    spec.check_parameters(1_169_016)


def test_the_image_shape_is_that_of_the_config():
  assert spec_of(image_size=99).image_shape == (99, 99)
  spec = spec_of(image_size=99, image_height=40)
  assert spec.image_shape == (40, 99)


def test_files_are_repeated_up_to_the_number_of_examples(tmp_path):
  (tmp_path / 'train').mkdir()
  np.save(tmp_path / 'train.npy', np.float32([[0, 1], [1, 1]]))
  spec = child.Spec(
    contender='torch',
    measurement='input',
    config=config_lib.to_dict(default.get_config()),
    num_examples={'train': 3},
    files=str(tmp_path),
  )
  paths, labels = spec.read_split('train_split')
  assert paths == [
    str(tmp_path / 'train' / f'0000{index}.jpg') for index in (0, 1, 0)
  ]
  assert labels.tolist() == [[0, 1], [1, 1], [0, 1]]


def answer(monkeypatch, measurement, function):
  spec = {'contender': 'torch', 'measurement': measurement}
  monkeypatch.setattr(sys, 'argv', ['child', json.dumps(spec)])
  child.answer({'step': function}, platform=lambda: 'cpu')


def test_the_answer_is_the_last_line(monkeypatch, capsys):
  def step(spec):
    print('a library says', end='')
    return {'contender': spec.contender}

  answer(monkeypatch, 'step', step)
  last = capsys.readouterr().out.splitlines()[-1]
  assert json.loads(last) == {'platform': 'cpu', 'contender': 'torch'}


def test_an_input_error_is_a_message_and_a_status(monkeypatch, capsys):
  def step(spec):
    raise errors.InputError('too small\nby far')

  with pytest.raises(SystemExit) as exit_info:
    answer(monkeypatch, 'step', step)
  assert exit_info.value.code == child.INPUT_ERROR_STATUS
  last = capsys.readouterr().out.splitlines()[-1]
  assert json.loads(last) == 'too small\nby far'


def test_a_child_that_fails_is_an_error_with_what_it_said():
  spec = child.Spec(contender='genre_flax', measurement='unheard of')
  with pytest.raises(RuntimeError, match='unheard of(.|\n)*KeyError'):
    processes.run('benchmarks.data', spec)


class Clock:
  """Time that only `pass_` moves."""

  def __init__(self, monkeypatch):
    self.now = 0.0
    monkeypatch.setattr(measure.time, 'perf_counter', lambda: self.now)

  def pass_(self, seconds):
    self.now += seconds


def test_the_first_step_and_the_warm_up_are_left_out_of_the_rate(monkeypatch):
  clock = Clock(monkeypatch)
  durations = iter([10.0, 7.0, 7.0, 1.0, 2.0, 3.0])
  waited = []

  def step():
    clock.pass_(next(durations))
    return clock.now

  timing = measure.time_steps(step, waited.append, batch_size=8, num_steps=3)
  # 3 steps in 6 s; the first took 10 s, 8 more than 2 s.
  assert timing == {'images_per_second': 4.0, 'compile_seconds': 8.0}
  assert waited == [10, 17, 24, 25, 27, 30]


def test_the_first_batches_are_left_out_of_the_rate(monkeypatch):
  clock = Clock(monkeypatch)

  def batches():
    for index in range(20):
      clock.pass_(5.0 if index < 8 else 0.5)
      yield index

  timing = measure.time_batches(batches(), batch_size=8, num_batches=18)
  # 10 batches of 8 in 5 s.
  assert timing == {'images_per_second': 16.0}


def test_contenders_take_turns(monkeypatch):
  ran = []

  def run(module, spec):
    ran.append(module)
    return {'number': len(ran)}

  monkeypatch.setattr(processes, 'run', run)
  results, failed = processes.run_in_turn(
    [child.Spec('genre_flax', 'step'), child.Spec('torch', 'step', 'float32')],
    repetitions=2,
  )
  own = 'benchmarks.own'
  torch = 'benchmarks.torch_peer'
  assert ran == [own, torch, own, torch]
  assert not failed
  assert results[3] == {
    'contender': 'torch',
    'variant': 'float32',
    'measurement': 'step',
    'repetition': 1,
    'values': {'number': 4},
  }


@pytest.mark.parametrize('failing', ['torch', 'genre_flax'])
def test_a_peer_that_fails_is_told_and_we_may_not(monkeypatch, failing):
  def run(module, spec):
    if spec.contender == failing:
      raise RuntimeError('out of memory')
    return {'number': 1}

  monkeypatch.setattr(processes, 'run', run)
  specs = [child.Spec('genre_flax', 'epoch'), child.Spec('torch', 'epoch', 'a')]
  if failing == 'genre_flax':
    with pytest.raises(RuntimeError, match='out of memory'):
      processes.run_in_turn(specs, repetitions=2)
    return
  results, failed = processes.run_in_turn(specs, repetitions=2)
  assert [one['contender'] for one in results] == ['genre_flax', 'genre_flax']
  assert failed == {'torch (a), epoch': 'out of memory'}
