import pathlib
import shutil
import time

from etils import epath
import pytest

from genre_flax.runtime import metric_writer
from genre_flax.runtime import uploads
from tests.support import cloud

WORKDIR = epath.Path('gs://bucket/run')


@pytest.fixture
def storage(monkeypatch):
  return cloud.install(monkeypatch)


def open_writer(**options):
  return metric_writer.MetricWriter(
    WORKDIR, **{'start_step': 0, 'tensorboard': True, **options}
  )


def steps():
  return [line['step'] for line in metric_writer.read(WORKDIR)]


def test_metrics_reach_the_storage_on_request_and_at_the_end(storage):
  writer = open_writer()
  for step in range(1, 101):
    writer.write(step, 'train', {'loss': 1.0})
  assert steps() == []
  writer.upload()
  while len(steps()) < 100:
    time.sleep(0.01)
  writer.write(101, 'validation', {'loss': 1.0})
  writer.close()
  assert steps() == list(range(1, 102))
  # At the start, on request and at the end; 201 times for each line.
  assert storage.writes.count('/bucket/run/metrics.jsonl') <= 4
  [events] = WORKDIR.glob('tensorboard/events*')
  assert b'validation/loss' in events.read_bytes()


def test_a_resumed_run_continues_the_lines(storage):
  for start, last in ((0, 3), (2, 4)):
    writer = open_writer(start_step=start)
    for step in range(start + 1, last + 1):
      writer.write(step, 'train', {'loss': 1.0})
    writer.close()
  assert steps() == [1, 2, 3, 4]
  assert len(list(WORKDIR.glob('tensorboard/events*'))) <= 2


def test_changed_files_are_uploaded_at_an_interval(storage):
  uploader = uploads.Uploader(WORKDIR, interval_seconds=0.2)
  path = uploader.folder / 'a'
  for content in ('1', '12'):
    path.write_text(content)
    end = time.monotonic() + 20
    while not (
      (WORKDIR / 'a').exists() and (WORKDIR / 'a').read_text() == content
    ):
      assert time.monotonic() < end
  time.sleep(0.5)  # Nothing has changed.
  uploader.close()
  assert storage.writes == ['/bucket/run/a'] * 2
  assert not uploader.folder.exists()


def test_an_upload_that_fails_is_tried_again_and_files_are_kept(
  storage, monkeypatch, caplog
):
  def fail(*args, **kwargs):
    raise OSError('network')

  writer = open_writer(tensorboard=False)
  monkeypatch.setattr(storage, 'open', fail)
  writer.write(1, 'train', {'loss': 1.0})
  writer.close()
  assert 'cannot be uploaded: network' in caplog.text
  [folder] = {
    epath.Path(r.args[1]) for r in caplog.records if 'remain' in r.msg
  }
  assert metric_writer.read(folder)[0]['step'] == 1
  shutil.rmtree(folder)


def test_files_that_cannot_be_read_do_not_end_the_uploads(
  storage, monkeypatch, caplog
):
  read_bytes = pathlib.Path.read_bytes

  def fail(path):
    if path.name == 'deleted':
      path.unlink()
      raise FileNotFoundError(path)
    if path.name == 'damaged' and not caplog.records:
      raise OSError('input/output error')
    return read_bytes(path)

  monkeypatch.setattr(pathlib.Path, 'read_bytes', fail)
  uploader = uploads.Uploader(WORKDIR, interval_seconds=0.1)
  for name in ('damaged', 'deleted', 'sound'):
    (uploader.folder / name).write_text(name)
  end = time.monotonic() + 20
  while not (WORKDIR / 'damaged').exists():
    assert time.monotonic() < end
    time.sleep(0.05)
  uploader.close()
  assert 'damaged cannot be uploaded: input/output error' in caplog.text
  assert 'deleted cannot' not in caplog.text
  assert (WORKDIR / 'sound').read_text() == 'sound'
  assert not uploader.folder.exists()
