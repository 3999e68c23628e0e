import jax
import jax.numpy as jnp
import numpy as np
import pytest

from genre_flax.runtime import parallel
from genre_flax.runtime import target
from tests import conftest

NUM_DEVICES = conftest.NUM_DEVICES


def make_batches(count):
  for i in range(count):
    yield {'x': np.full((NUM_DEVICES, 3), i, np.float32)}


@pytest.mark.parametrize(
  'debugging',
  [
    lambda: jax.debug_nans(True),
    lambda: jax.debug_infs(True),
    jax.disable_jit,
  ],
)
def test_implicit_transfers_are_refused_unless_jax_debugs(debugging):
  def transfer():
    with parallel.no_implicit_transfers():
      return jax.jit(jnp.negative)(np.ones(3, np.float32)).sum()

  with pytest.raises(Exception, match='Disallowed host-to-device transfer'):
    transfer()
  with debugging():
    assert transfer() == -3


def test_shard_batch_places_a_slice_on_each_device():
  x = np.arange(2 * NUM_DEVICES * 5).reshape(2 * NUM_DEVICES, 5)
  placed = parallel.shard_batch({'x': x})['x']
  assert placed.shape == (NUM_DEVICES, 2, 5)
  np.testing.assert_array_equal(placed.reshape(x.shape), x)
  assert len({shard.device for shard in placed.addressable_shards}) == 8
  for shard in placed.addressable_shards:
    assert shard.data.shape == (1, 2, 5)


@pytest.mark.parametrize('disable_jit', [False, True])
def test_a_step_runs_on_all_slices_and_returns_one_value(disable_jit):
  platforms = set()

  def step(state, batch):
    platforms.add(target.platform())
    return state + jax.lax.psum(batch['x'].sum(), parallel.AXIS_NAME)

  x = np.arange(2.0 * NUM_DEVICES)
  with jax.disable_jit(disable_jit):
    out = parallel.parallelize(step)(
      parallel.replicate(jnp.asarray(100.0)), parallel.shard_batch({'x': x})
    )
  assert out.shape == ()
  assert float(out) == 100 + x.sum()
  assert platforms == {jax.default_backend()}
  assert target.platform() is None


def test_jax_debug_nans_stops_at_the_operation():
  def step(state, batch):
    return state + jax.lax.psum(jnp.log(batch['x']).sum(), parallel.AXIS_NAME)

  with jax.debug_nans(True):
    parallel_step = parallel.parallelize(step, donate_state=True)
    state = parallel.replicate(jnp.zeros(()))
    for sign in (1, 1, -1):
      batch = parallel.shard_batch({'x': sign * np.ones(8, np.float32)})
      if sign == 1:
        assert parallel_step(state, batch) == 0
    with pytest.raises(FloatingPointError, match='nan') as e:
      parallel_step(state, batch)
  lines = [str(entry.statement) for entry in e.traceback]
  assert any('jnp.log(' in line for line in lines)


def test_a_donated_state_is_deleted():
  step = parallel.parallelize(
    lambda state, batch: state + jax.lax.pmean(batch['x'].mean(), 'batch'),
    donate_state=True,
  )
  state = parallel.replicate(jnp.zeros(1000))
  batch = parallel.shard_batch({'x': np.ones(NUM_DEVICES, np.float32)})
  new_state = step(state, batch)
  assert state.is_deleted()
  np.testing.assert_array_equal(new_state, np.ones(1000))


def test_shard_ahead_yields_all_batches_in_order():
  for count in (0, 1, 2, 5):
    for ahead in (1, 2, 7):
      batches = parallel.shard_ahead(make_batches(count), ahead=ahead)
      got = [float(batch['x'][0, 0, 0]) for batch in batches]
      assert got == list(range(count))


def test_shard_ahead_closes_its_source():
  batches = make_batches(10)
  ahead = parallel.shard_ahead(batches)
  next(ahead)
  ahead.close()
  assert list(batches) == []
