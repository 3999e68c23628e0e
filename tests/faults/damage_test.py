"""Damaged files: the same numbers, or an error by name; never other numbers."""

import pathlib
import shutil

from etils import epath
import numpy as np
import pytest

from genre_flax.checkpoints import checkpointer as checkpointer_lib
from genre_flax.checkpoints import recovery
from genre_flax.data import decoded_cache
from genre_flax.datasets.posters import build
from genre_flax.datasets.posters import storage
from genre_flax.runtime import errors
from genre_flax.training import feature_cache
from tests.checkpoints import checkpointer_test
from tests.faults import damage
from tests.faults import outcomes as outcomes_lib
from tests.support import helpers

# Orbax leaves tasks behind where a file does not read.
pytestmark = pytest.mark.filterwarnings(
  'ignore::pytest.PytestUnraisableExceptionWarning',
  'ignore:coroutine .* was never awaited:RuntimeWarning',
  'ignore::ResourceWarning',
)
LENGTHS = pytest.mark.parametrize(
  'num_flips',
  [1, pytest.param(20, marks=[pytest.mark.drill, pytest.mark.slow])],
)
GROUP = 'damage to files'
SAME, NAMED = 'the same numbers', 'an error by name'
META = {
  'config': {'a': 0.1},
  'genres': ['Drama', 'N/A'],
  'num_train_steps': 3,
}


def files_of(folder):
  return sorted(path for path in folder.rglob('*') if path.is_file())


def for_each_damage(folder, tmp_path, num_flips, look, *, older=None):
  """Damages a copy of a folder in each way, and asks what comes of it."""
  copy = tmp_path / 'damaged'
  for path in files_of(folder):
    relative = path.relative_to(folder)
    before = older(relative) if older else None
    damaged = list(damage.ways(path, num_flips=num_flips, older=before))
    for name, content in damaged:
      shutil.copytree(folder, copy)
      if content is None:
        (copy / relative).unlink()
      else:
        (copy / relative).write_bytes(content)
      try:
        look(copy)
      except AssertionError as e:
        raise AssertionError(f'{relative} {name}: {e}') from e
      except Exception as e:
        raise RuntimeError(f'{relative} {name}') from e
      shutil.rmtree(copy)


def save_two(workdir):
  with checkpointer_lib.Checkpointer(workdir, keep_best=9) as checkpointer:
    for step, score in ((1, 0.2), (2, 0.5)):
      checkpointer.save(
        step,
        checkpointer_test.make_state(step).to_items(),
        meta=META,
        metrics={'mean_average_precision': score},
      )
      checkpointer.wait()


@LENGTHS
@pytest.mark.parametrize('reader', ['naming genres', 'resuming'])
def test_a_checkpoint(tmp_path, num_flips, reader):
  outcomes = outcomes_lib.Outcomes(f'a checkpoint, {reader}', group=GROUP)
  workdir = tmp_path / 'run'
  save_two(workdir)
  older = workdir / 'checkpoints' / '1'

  def name_genres(copy):
    try:
      step, meta, variables = checkpointer_lib.read_model(copy, step='best')
    except errors.DamageError as e:
      assert '2' in str(e)
      outcomes[NAMED] += 1
      return
    expected = checkpointer_test.make_state(2)
    assert (step, meta) == (2, META)
    helpers.assert_trees_equal(
      variables,
      {'params': expected.ema_params, 'batch_stats': expected.batch_stats},
    )
    outcomes[SAME] += 1

  def resume(copy):
    template = checkpointer_test.make_state(0, seed=99).to_items()
    with checkpointer_lib.Checkpointer(copy) as checkpointer:
      items, meta = recovery.restore_latest(checkpointer, template)
    step = int(items['optimizer']['step'])
    assert meta == META
    helpers.assert_trees_equal(
      items, checkpointer_test.make_state(step).to_items()
    )
    outcomes[SAME if step == 2 else 'the checkpoint before, loudly'] += 1

  def look(copy):
    # Of the two checkpoints the second is damaged.
    shutil.copytree(older, copy / 'checkpoints' / '1')
    (name_genres if reader == 'naming genres' else resume)(copy)

  only_second = tmp_path / 'second'
  shutil.copytree(workdir, only_second)
  shutil.rmtree(only_second / 'checkpoints' / '1')
  for_each_damage(
    only_second,
    tmp_path,
    num_flips,
    look,
    older=lambda relative: older / pathlib.Path(*relative.parts[2:]),
  )
  outcomes.done()
  assert sum(outcomes.values()) > 40


@LENGTHS
def test_a_data_set(tmp_path, num_flips):
  outcomes = outcomes_lib.Outcomes('a data set', group=GROUP)
  build.build_synthetic(data_dir=tmp_path / 'old', num_posters=20, seed=1)
  build.build_synthetic(data_dir=tmp_path / 'data', num_posters=20)

  def read(data_dir):
    dataset = storage.open_dataset(data_dir)
    splits = [
      dataset.open_split(name, check_records=True)  # As a training does.
      for name in dataset.card['splits']
    ]
    return dataset, [split[i] for split in splits for i in range(len(split))]

  whole, expected = read(tmp_path / 'data')

  def look(copy):
    try:
      dataset, records = read(copy)
    except errors.InputError as e:
      assert str(copy) in str(e)
      outcomes[NAMED] += 1
      return
    assert dataset.card == whole.card
    for one, other in zip(records, expected, strict=True):
      assert (one.id, one.image) == (other.id, other.image)
      np.testing.assert_array_equal(one.labels, other.labels)
    outcomes[SAME] += 1

  for_each_damage(
    tmp_path / 'data',
    tmp_path,
    num_flips,
    look,
    older=lambda relative: tmp_path / 'old' / relative,
  )
  outcomes.done()
  assert outcomes[NAMED] > 20


@LENGTHS
def test_stored_features(tmp_path, num_flips):
  outcomes = outcomes_lib.Outcomes('stored features', group=GROUP)
  rng = np.random.default_rng(0)
  stored = {
    'features': rng.random((6, 5), np.float32),
    'labels': rng.integers(0, 2, (6, 3)).astype(np.float32),
  }
  (tmp_path / 'features').mkdir()
  np.savez(tmp_path / 'features' / 'train.npz', key='abc', **stored)

  def look(copy):
    found = feature_cache._read(epath.Path(copy) / 'train.npz', 'abc')
    if found is None:
      outcomes['computed anew'] += 1
      return
    for index in range(6):
      for name, values in stored.items():
        np.testing.assert_array_equal(found[index][name], values[index])
    outcomes[SAME] += 1

  for_each_damage(tmp_path / 'features', tmp_path, num_flips, look)
  outcomes.done()
  assert outcomes['computed anew']


@LENGTHS
def test_a_cache_of_decoded_posters(tmp_path, num_flips):
  outcomes = outcomes_lib.Outcomes('the cache of decoded posters', group=GROUP)
  rng = np.random.default_rng(0)
  images = rng.integers(0, 256, (6, 8, 4, 3), np.uint8)
  labels = rng.integers(0, 2, (6, 5)).astype(np.float32)
  decoded = []

  def decode(index):
    decoded.append(index)
    return {'image': images[index], 'labels': labels[index]}

  def read(folder):
    cache = decoded_cache.DiskCache(
      folder / 'posters.rows',
      num_examples=6,
      image_shape=(8, 4, 3),
      num_genres=5,
    )
    return [cache.get(index, decode) for index in range(6)]

  read(tmp_path / 'cache')

  def look(copy):
    decoded.clear()
    for index, example in enumerate(read(copy)):
      np.testing.assert_array_equal(example['image'], images[index])
      np.testing.assert_array_equal(example['labels'], labels[index])
    outcomes['decoded anew' if decoded else SAME] += 1

  for_each_damage(tmp_path / 'cache', tmp_path, num_flips, look)
  outcomes.done()
  assert outcomes['decoded anew'] > 2
