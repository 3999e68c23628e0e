import json
import shutil

import pytest

from genre_flax.runtime import errors
from genre_flax.runtime import metric_writer

LINES = [
  {'step': 2, 'split': 'train', 'loss': 0.1 + 0.2},
  {'step': 3, 'split': 'test', 'auc': None},
]


def write(workdir, *lines, start_step=0, tensorboard=False):
  writer = metric_writer.MetricWriter(
    workdir, start_step=start_step, tensorboard=tensorboard
  )
  for step, split, values in lines:
    writer.write(step, split, values)
  writer.close()


def test_lines_are_json_and_not_finite_values_are_null(tmp_path):
  values = {'auc': float('nan'), 'loss': float('inf')}
  write(tmp_path, (2, 'train', {'loss': 0.1 + 0.2}), (3, 'test', values))
  expected = [LINES[0], {**LINES[1], 'loss': None}]
  text = (tmp_path / metric_writer.FILE_NAME).read_text()
  assert [json.loads(line) for line in text.splitlines()] == expected
  assert metric_writer.read(tmp_path) == expected


def test_lines_after_the_start_step_are_dropped(tmp_path):
  write(tmp_path, *((i, 'train', {'loss': 1.0}) for i in (1, 2, 3)))
  write(tmp_path, (3, 'train', {'loss': 2.0}), start_step=2)
  lines = metric_writer.read(tmp_path)
  assert [(line['step'], line['loss']) for line in lines] == [
    (1, 1.0),
    (2, 1.0),
    (3, 2.0),
  ]


@pytest.mark.parametrize('cut', [0, 5, 20])
def test_incomplete_and_other_lines_are_skipped_with_a_warning(
  tmp_path, caplog, cut
):
  path = tmp_path / metric_writer.FILE_NAME
  other = ['[]', '3', 'null', '{"split": "train"}', '']
  lines = [*other, json.dumps(LINES[0]), json.dumps(LINES[1])[: -cut or None]]
  path.write_text('\n'.join(lines))
  assert metric_writer.read(tmp_path) == LINES[:1]
  write(tmp_path, (4, 'train', {}), start_step=3)
  assert f'{path}: skipped {len(other) + 1} ' in caplog.text
  assert 'line 1' in caplog.text
  assert [line['step'] for line in metric_writer.read(tmp_path)] == [2, 4]


def test_a_deleted_workdir_is_not_created_again(tmp_path):
  workdir = tmp_path / 'run'
  workdir.mkdir()
  writer = metric_writer.MetricWriter(workdir, start_step=0, tensorboard=False)
  shutil.rmtree(workdir)
  with pytest.raises(errors.StorageError, match='No such file'):
    writer.write(1, 'train', {})
  assert not workdir.exists()


@pytest.mark.parametrize('tensorboard', [True, False])
def test_tensorboard_events_are_optional(tmp_path, tensorboard):
  write(tmp_path, (1, 'train', {'loss': 1.0}), tensorboard=tensorboard)
  events = [path.read_bytes() for path in tmp_path.glob('tensorboard/events*')]
  assert [b'train/loss' in content for content in events] == [
    True
  ] * tensorboard
