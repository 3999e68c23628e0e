import pytest

from genre_flax.ops.cpu import onednn
from genre_flax.training import overview
from genre_flax.training import run as run_lib
from tests.support import helpers


@pytest.mark.parametrize(
  'version, reason',
  [
    ('0.99.1', 'oneDNN was tried with jaxlib 0.10, 0.11, 0.12, not 0.99.1'),
    ('0.10.2', 'programs with oneDNN cannot be kept'),
  ],
)
def test_says_what_xlas_own_convolutions_cost(
  data_dir, tmp_path, monkeypatch, version, reason
):
  monkeypatch.setattr(onednn.jaxlib, '__version__', version)
  if version == '0.99.1':
    monkeypatch.setattr(onednn, '_has_compilation_cache', lambda: False)
    monkeypatch.setattr(onednn, '_is_in_jaxlib', lambda: False)
  config = helpers.tiny_config(data_dir)
  run = run_lib.set_up(config, tmp_path)
  text = overview.describe_run(config, run.schedule, run.dataset)
  cost = "XLA's own, which train at about half the speed"
  assert f'convolutions {cost}: {reason}' in text
