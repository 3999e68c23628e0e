from etils import epath
import jax.numpy as jnp
import pytest

from genre_flax.runtime import errors
from genre_flax.runtime import profiler
from tests.support import cloud


def run_steps(folder, steps, *, num_steps=5):
  with profiler.trace_steps(folder, steps):
    for step in range(1, num_steps + 1):
      profiler.before_step(step)
      outputs = jnp.arange(100.0) @ jnp.arange(100.0)
      profiler.after_step(step, outputs)


@pytest.mark.parametrize('steps', [(2, 3), (4, 9)])
def test_steps_are_traced(tmp_path, steps):
  run_steps(tmp_path, steps)
  [trace] = tmp_path.glob('plugins/profile/*/*.xplane.pb')
  assert trace.stat().st_size > 1000


def test_a_trace_is_copied_to_cloud_storage(monkeypatch):
  cloud.install(monkeypatch)
  run_steps('gs://bucket/run/profile', (2, 3))
  folder = epath.Path('gs://bucket/run/profile/plugins/profile')
  [trace] = folder.glob('*/*.xplane.pb')
  assert len(trace.read_bytes()) > 1000


def test_no_trace_is_written_without_steps_or_before_they_are_reached(
  tmp_path, caplog
):
  run_steps(tmp_path, None)
  run_steps(tmp_path, (7, 8))
  assert not list(tmp_path.iterdir())
  assert 'Step 7 was not trained' in caplog.text


@pytest.mark.parametrize(
  'values', [['1'], ['3', '2'], ['0', '1'], ['a', 'b'], ['1', '2', '3']]
)
def test_other_values_of_the_flag_are_refused(values):
  with pytest.raises(errors.InputError, match='such as 10,20'):
    profiler.parse_steps(values)
  assert profiler.parse_steps([]) is None
  assert profiler.parse_steps(['10', '20']) == (10, 20)
