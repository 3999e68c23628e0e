import os
import subprocess
import sys

import pytest

from genre_flax.runtime import metric_lines
from genre_flax.runtime import metric_writer


def write(workdir, lines, *, start_step=0, tensorboard=False, is_active=True):
  writer = metric_writer.MetricWriter(
    workdir,
    start_step=start_step,
    tensorboard=tensorboard,
    is_active=is_active,
  )
  for step, split, values in lines:
    writer.write(step, split, values)
  writer.close()


def test_lines_are_read_as_written(tmp_path):
  write(tmp_path, [(2, 'train', {'loss': 1.5}), (3, 'test', {'auc': 0.5})])
  assert metric_lines.read(tmp_path) == [
    {'step': 2, 'split': 'train', 'loss': 1.5},
    {'step': 3, 'split': 'test', 'auc': 0.5},
  ]


def test_what_is_not_finite_is_null(tmp_path):
  write(tmp_path, [(1, 'train', {'a': float('nan'), 'b': float('inf')})])
  assert metric_lines.read(tmp_path) == [
    {'step': 1, 'split': 'train', 'a': None, 'b': None}
  ]


def test_going_back_drops_what_came_after(tmp_path):
  write(tmp_path, [(i, 'train', {'loss': 1.0}) for i in (1, 2, 3)])
  write(tmp_path, [(3, 'train', {'loss': 2.0})], start_step=2)
  lines = metric_lines.read(tmp_path)
  assert [(line['step'], line['loss']) for line in lines] == [
    (1, 1.0),
    (2, 1.0),
    (3, 2.0),
  ]


def test_a_line_that_was_cut_off_is_left_out(tmp_path):
  write(tmp_path, [(1, 'train', {'loss': 1.0})])
  path = tmp_path / metric_lines.FILE_NAME
  path.write_text(path.read_text() + '{"step": 2, "spl')
  write(tmp_path, [(3, 'train', {'loss': 1.0})], start_step=2)
  steps = [line['step'] for line in metric_lines.read(tmp_path)]
  assert steps == [1, 3]


@pytest.mark.parametrize('tensorboard', [True, False])
def test_events_are_written_where_they_are_asked_for(tmp_path, tensorboard):
  write(tmp_path, [(1, 'train', {'loss': 1.0})], tensorboard=tensorboard)
  events = list(tmp_path.glob('tensorboard/events*'))
  assert len(events) == tensorboard
  if tensorboard:
    assert b'train/loss' in events[0].read_bytes()


def test_other_hosts_write_nothing(tmp_path):
  write(tmp_path, [(1, 'train', {})], tensorboard=True, is_active=False)
  assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
  ('program', 'expected'),
  [
    ("import events; print('events'); import torch", ['events', 'imported']),
    (
      'import torch; import events; print(torch.__name__)',
      ['imported', 'torch'],
    ),
  ],
)
def test_pytorch_is_left_to_those_who_import_it(program, expected, tmp_path):
  (tmp_path / 'torch.py').write_text("Tensor = object; print('imported')")
  program = program.replace(
    'import events', 'from genre_flax.runtime import events'
  )
  done = subprocess.run(
    [sys.executable, '-c', program],
    env={**os.environ, 'PYTHONPATH': str(tmp_path)},
    capture_output=True,
    text=True,
    check=True,
  )
  assert done.stdout.split() == expected
