"""Damaged files are an error with their name, or recomputed."""

import collections
import pathlib
import random
import shutil

from etils import epath
import numpy as np
import pytest

from genre_flax.checkpoints import checkpointer as checkpointer_lib
from genre_flax.checkpoints import recovery
from genre_flax.data import cache as cache_lib
from genre_flax.datasets.posters import build
from genre_flax.datasets.posters import storage
from genre_flax.runtime import errors
from genre_flax.training import feature_cache
from tests.checkpoints import checkpointer_test
from tests.faults import trainings
from tests.support import helpers

# Orbax abandons tasks when a file cannot be read.
pytestmark = pytest.mark.filterwarnings(
  'ignore::pytest.PytestUnraisableExceptionWarning',
  'ignore:coroutine .* was never awaited:RuntimeWarning',
  'ignore::ResourceWarning',
)
NUM_FLIPS = trainings.short_and_long('num_flips', 1, 20)
META = {
  'config': {'a': 0.1},
  'genres': ['Drama', 'N/A'],
  'num_train_steps': 3,
}


def damages(path, num_flips, older):
  """Names of damages and the damaged contents; None for a deleted file."""
  content = path.read_bytes()
  rng = random.Random(path.name)
  for number in range(min(num_flips, len(content))):
    start = number * len(content) // num_flips
    end = max(start + 1, (number + 1) * len(content) // num_flips)
    damaged = bytearray(content)
    damaged[rng.randrange(start, end)] ^= 1 << rng.randrange(8)
    yield 'with a flipped bit', bytes(damaged)
  if content:
    yield 'truncated', content[: len(content) // 2]
  if content and num_flips > 1:
    yield 'empty', b''
    yield 'zeroed', bytes(len(content))
  yield 'deleted', None
  if older is not None and older.exists() and older.read_bytes() != content:
    yield 'of an earlier version', older.read_bytes()


def check_damages(folder, tmp_path, num_flips, check, *, older=None):
  """Counts the results of `check` on copies of a folder with each damage.

  Args:
    folder: with the files to damage, one at a time.
    tmp_path: for the copies.
    num_flips: bits to flip per file.
    check: function of a copy; its result is counted.
    older: function from a relative path to an earlier version of the file.
  """
  copy, counts = tmp_path / 'damaged', collections.Counter()
  for path in sorted(path for path in folder.rglob('*') if path.is_file()):
    relative = path.relative_to(folder)
    for name, content in damages(path, num_flips, older and older(relative)):
      shutil.copytree(folder, copy)
      if content is None:
        (copy / relative).unlink()
      else:
        (copy / relative).write_bytes(content)
      try:
        counts[check(copy)] += 1
      except Exception as e:
        raise AssertionError(f'{relative} {name}: {e!r}') from e
      shutil.rmtree(copy)
  return counts


@pytest.fixture
def checkpoints(tmp_path):
  """Folders with the checkpoint of step 1 and with that of step 2, the best."""
  with checkpointer_lib.Checkpointer(
    tmp_path / 'run', keep_best=9
  ) as checkpointer:
    for step, score in ((1, 0.2), (2, 0.5)):
      checkpointer.save(
        step,
        checkpointer_test.make_state(step).to_items(),
        meta=META,
        metrics={'mean_average_precision': score},
      )
      checkpointer.wait()
  first = tmp_path / 'first'
  (tmp_path / 'run' / 'checkpoints' / '1').rename(first)
  return first, tmp_path / 'run'


def read_model(workdir):
  try:
    step, meta, variables = checkpointer_lib.read_model(workdir, step='best')
  except errors.DamageError as e:
    assert '2' in str(e)
    return 'error'
  expected = checkpointer_test.make_state(2)
  assert (step, meta) == (2, META)
  helpers.assert_trees_equal(
    variables,
    {'params': expected.ema_params, 'batch_stats': expected.batch_stats},
  )
  return 'same'


def resume(workdir):
  template = checkpointer_test.make_state(0, seed=99).to_items()
  with checkpointer_lib.Checkpointer(workdir) as checkpointer:
    items, meta = recovery.restore_latest(checkpointer, template)
  step = int(items['optimizer']['step'])
  assert meta == META
  helpers.assert_trees_equal(
    items, checkpointer_test.make_state(step).to_items()
  )
  return 'same' if step == 2 else 'earlier checkpoint'


@NUM_FLIPS
@pytest.mark.parametrize(
  ('reader', 'result'),
  [(read_model, 'error'), (resume, 'earlier checkpoint')],
)
def test_checkpoint(checkpoints, tmp_path, num_flips, reader, result):
  first, workdir = checkpoints

  def check(copy):
    # Only the second of the two checkpoints is damaged.
    shutil.copytree(first, copy / 'checkpoints' / '1')
    return reader(copy)

  counts = check_damages(
    workdir,
    tmp_path,
    num_flips,
    check,
    older=lambda relative: first / pathlib.Path(*relative.parts[2:]),
  )
  assert set(counts) == {'same', result}
  assert counts.total() > 40


@NUM_FLIPS
def test_dataset(tmp_path, num_flips):
  build.build_synthetic(data_dir=tmp_path / 'old', num_posters=20, seed=1)
  build.build_synthetic(data_dir=tmp_path / 'data', num_posters=20)

  def read(data_dir):
    dataset = storage.open_dataset(data_dir)
    splits = [
      dataset.open_split(name, check_records=True)  # As in a training.
      for name in dataset.card['splits']
    ]
    return dataset, [split[i] for split in splits for i in range(len(split))]

  original, expected = read(tmp_path / 'data')

  def check(copy):
    try:
      dataset, records = read(copy)
    except errors.InputError as e:
      assert str(copy) in str(e)
      return 'error'
    assert dataset.card == original.card
    for record, other in zip(records, expected, strict=True):
      assert (record.id, record.image) == (other.id, other.image)
      np.testing.assert_array_equal(record.labels, other.labels)
    return 'same'

  counts = check_damages(
    tmp_path / 'data',
    tmp_path,
    num_flips,
    check,
    older=lambda relative: tmp_path / 'old' / relative,
  )
  assert counts['error'] > 20


@NUM_FLIPS
def test_feature_cache(tmp_path, num_flips):
  rng = np.random.default_rng(0)
  stored = {
    'features': rng.random((6, 5), np.float32),
    'labels': rng.integers(0, 2, (6, 3)).astype(np.float32),
  }
  (tmp_path / 'features').mkdir()
  np.savez(tmp_path / 'features' / 'train.npz', **stored)

  def check(copy):
    found = feature_cache._read(epath.Path(copy) / 'train.npz')
    if found is None:
      return 'recomputed'
    for index in range(6):
      for name, values in stored.items():
        np.testing.assert_array_equal(found[index][name], values[index])
    return 'same'

  counts = check_damages(tmp_path / 'features', tmp_path, num_flips, check)
  assert counts['recomputed']


@NUM_FLIPS
def test_image_cache(tmp_path, num_flips):
  rng = np.random.default_rng(0)
  images = rng.integers(0, 256, (6, 8, 4, 3), np.uint8)
  labels = rng.integers(0, 2, (6, 5)).astype(np.float32)
  decoded = []

  def decode(index):
    decoded.append(index)
    return {'image': images[index], 'labels': labels[index]}

  def check(folder):
    decoded.clear()
    cache = cache_lib.DiskCache(
      folder / 'posters.rows',
      num_examples=6,
      blank={'image': images[0], 'labels': labels[0]},
    )
    for index in range(6):
      example = cache.get(index, decode)
      np.testing.assert_array_equal(example['image'], images[index])
      np.testing.assert_array_equal(example['labels'], labels[index])
    return 'recomputed' if decoded else 'same'

  assert check(tmp_path / 'cache') == 'recomputed'
  assert check(tmp_path / 'cache') == 'same'
  counts = check_damages(tmp_path / 'cache', tmp_path, num_flips, check)
  assert counts['recomputed'] > 2
