import errno
import types

from etils import epath
import jax
import numpy as np
import pytest

from genre_flax.checkpoints import checkpointer as checkpointer_lib
from genre_flax.checkpoints import recovery
from genre_flax.checkpoints import selection
from genre_flax.checkpoints import shapes
from genre_flax.runtime import errors
from genre_flax.training import train_state
from tests.support import helpers


def make_state(step, *, ema=True, seed=None):
  """A state of random numbers, which differ by step."""
  rng = np.random.default_rng(step if seed is None else seed)
  params = {'a': {'kernel': rng.random((3, 4), np.float32)}}
  return train_state.TrainState(
    step=np.asarray(step, np.int32),
    params=params,
    batch_stats={'norm': {'mean': rng.random(4, np.float32)}},
    ema_params=jax.tree.map(lambda x: x + 1, params) if ema else None,
    opt_state=(
      {'mu': rng.random((3, 4), np.float32)},
      {'count': np.asarray(step, np.int32)},
    ),
  )


META = {'config': {'a': 1}, 'genres': ['Drama', 'N/A']}


def save(workdir, scores, **kwargs):
  """Saves a checkpoint per (step, validation score or None)."""
  best_metric = kwargs.get('best_metric', selection.BestMetric())
  with checkpointer_lib.Checkpointer(workdir, **kwargs) as checkpointer:
    for step, score in scores:
      metrics = None if score is None else {best_metric.name: score}
      checkpointer.save(
        step, make_state(step).to_items(), meta=META, metrics=metrics
      )
      checkpointer.wait()
    return checkpointer.steps()


def restore(workdir):
  with checkpointer_lib.Checkpointer(workdir) as checkpointer:
    return restore_from(checkpointer, make_state(0, seed=99))


def restore_from(checkpointer, template):
  restored = recovery.restore_latest(checkpointer, template.to_items())
  return restored and train_state.TrainState.from_items(restored[0])


@pytest.mark.parametrize('ema', [True, False])
@pytest.mark.parametrize('batch_stats', [True, False])
def test_restored_values_equal_the_saved_ones(tmp_path, ema, batch_stats):
  state, template = make_state(7, ema=ema), make_state(0, ema=ema, seed=99)
  if not batch_stats:
    state = state.replace(batch_stats={})
    template = template.replace(batch_stats={})
  with checkpointer_lib.Checkpointer(tmp_path) as checkpointer:
    checkpointer.save(7, state.to_items(), meta=META)
    checkpointer.wait()
    assert checkpointer.read_meta(7) == META
    helpers.assert_trees_equal(restore_from(checkpointer, template), state)
  step, meta, variables = checkpointer_lib.read_model(tmp_path, step='latest')
  assert (step, meta) == (7, META)
  expected = {
    'params': state.ema_params if ema else state.params,
    'batch_stats': state.batch_stats,
  }
  helpers.assert_trees_equal(variables, expected)


@pytest.mark.parametrize(
  ('scores', 'keep_best', 'kept'),
  [
    ([0.2, 0.5, 0.4, 0.3], 1, [2, 4]),
    ([0.2, 0.5, 0.4, 0.3], 2, [2, 3, 4]),
    ([0.2, None], 1, [1, 2]),
    ([0.2, None, 0.1], 1, [1, 3]),
    ([0.2, float('nan'), 0.1], 1, [1, 3]),
    ([0.2, float('inf'), 0.1], 1, [1, 3]),
  ],
)
def test_the_latest_and_the_best_are_kept(tmp_path, scores, keep_best, kept):
  *earlier, last = enumerate(scores, 1)
  save(tmp_path, earlier, keep_best=keep_best)
  # The second checkpointer reads the metrics from disk.
  assert save(tmp_path, [last], keep_best=keep_best) == kept


def test_the_best_metric_is_stored_with_the_checkpoints(tmp_path):
  metric = selection.BestMetric('cross_entropy', higher_is_better=False)
  scores = enumerate([3.0, 1.0, float('nan'), 2.0], 1)
  assert save(tmp_path, scores, best_metric=metric) == [2, 4]
  with checkpointer_lib.Checkpointer(tmp_path, read_only=True) as checkpointer:
    assert checkpointer.find_step('best') == 2
    assert checkpointer.ranked()[-1] == (2, {'cross_entropy': 1.0})


def test_an_existing_step_is_not_saved_again(tmp_path):
  save(tmp_path, [(1, 0.2)])
  with checkpointer_lib.Checkpointer(tmp_path) as checkpointer:
    checkpointer.save(1, make_state(1, seed=5).to_items(), meta=META)
  helpers.assert_trees_equal(restore(tmp_path), make_state(1))


def test_find_step(tmp_path):
  save(tmp_path, [(1, 0.5), (2, 0.2)])
  with checkpointer_lib.Checkpointer(tmp_path, read_only=True) as checkpointer:
    assert checkpointer.find_step('best') == 1
    assert checkpointer.find_step('latest') == 2
    assert checkpointer.find_step('1') == 1
    for wrong in ('3', 'first', '-1'):
      with pytest.raises(errors.InputError, match=r'\[1, 2\].*best.*latest'):
        checkpointer.find_step(wrong)
  save(tmp_path / 'new', [(1, None), (2, None)])
  with checkpointer_lib.Checkpointer(tmp_path / 'new') as checkpointer:
    assert checkpointer.find_step('best') == 2


def test_an_undamaged_checkpoint_of_another_network_is_not_moved(tmp_path):
  save(tmp_path, [(1, 0.5), (3, 0.5), (4, 0.2)])
  damage(tmp_path, 4)
  other = make_state(0)
  other.params['a']['kernel'] = np.zeros((5, 5), np.float32)
  with checkpointer_lib.Checkpointer(tmp_path) as checkpointer:
    message = r'3 is undamaged.*another network.*\(3, 4\), expected \(5, 5\)'
    with pytest.raises(shapes.OtherNetworkError, match=message):
      restore_from(checkpointer, other)
    with pytest.raises(shapes.OtherNetworkError, match=message):
      checkpointer.restore_model(3, other.to_items()['model'])
    assert checkpointer.steps() == [3, 4]
  helpers.assert_trees_equal(restore(tmp_path), make_state(3))
  assert (tmp_path / 'corrupt' / '4').is_dir()


def damage(workdir, step, item='model'):
  """Cuts all files of a checkpoint's item in half."""
  for path in (workdir / 'checkpoints' / str(step) / item).rglob('*'):
    if path.is_file():
      path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


@pytest.mark.parametrize('item', ['model', 'optimizer', 'meta'])
def test_a_damaged_checkpoint_is_moved_and_the_previous_one_restored(
  tmp_path, caplog, item
):
  save(tmp_path, [(1, 0.5), (2, 0.2)])
  damage(tmp_path, 2, item)
  helpers.assert_trees_equal(restore(tmp_path), make_state(1))
  assert 'Checkpoint 2 cannot be read' in caplog.text
  assert (tmp_path / 'corrupt' / '2').is_dir()
  # The step can be saved again.
  assert save(tmp_path, [(2, 0.3)]) == [1, 2]
  helpers.assert_trees_equal(restore(tmp_path), make_state(2))


def raising(error):
  def fail(*args):
    raise error

  return fail


@pytest.mark.parametrize(
  ('module', 'function', 'fault'),
  [
    (shapes, 'of', raising(OSError(errno.EMFILE, 'Too many open files'))),
    (shapes, 'of', raising(MemoryError())),
    (
      shapes.psutil,
      'virtual_memory',
      lambda: types.SimpleNamespace(available=10),
    ),
  ],
)
def test_a_transient_error_is_not_damage(
  tmp_path, monkeypatch, module, function, fault
):
  save(tmp_path, [(1, 0.5), (2, 0.2)])
  with monkeypatch.context() as patched:
    patched.setattr(module, function, fault)
    with pytest.raises(errors.ResourceError, match='Checkpoint 2 cannot be'):
      restore(tmp_path)
  helpers.assert_trees_equal(restore(tmp_path), make_state(2))


def test_if_all_are_damaged_none_is_moved(tmp_path):
  save(tmp_path, [(1, 0.5), (2, 0.2)])
  damage(tmp_path, 1)
  damage(tmp_path, 2)
  with pytest.raises(errors.InputError, match=r'\[1, 2\].*all damaged'):
    restore(tmp_path)
  assert not (tmp_path / 'corrupt').exists()


def test_an_incomplete_checkpoint_is_ignored(tmp_path):
  save(tmp_path, [(1, 0.5)])
  partial = tmp_path / 'checkpoints' / '2.orbax-checkpoint-tmp'
  partial.mkdir()
  (partial / 'junk').write_text('cut off')
  helpers.assert_trees_equal(restore(tmp_path), make_state(1))


def test_paths_on_cloud_storage_stay_urls():
  path = epath.Path('gs://bucket/run')
  assert checkpointer_lib._absolute(path) == path


def test_reading_does_not_create_a_workdir(tmp_path):
  with pytest.raises(errors.InputError, match='no checkpoint'):
    checkpointer_lib.read_model(tmp_path / 'missing', step='best')
  assert not list(tmp_path.iterdir())
