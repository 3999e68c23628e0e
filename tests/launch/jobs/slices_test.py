import pytest

from genre_flax.runtime import errors
from launch.jobs import slices


# Chips, hosts and topologies as Google's tables of each generation have them.
@pytest.mark.parametrize(
  ('name', 'num_chips', 'num_hosts', 'topology'),
  [
    ('v2-8', 4, 1, '2x2'),
    ('v3-32', 16, 4, '4x4'),
    ('v4-8', 4, 1, '2x2x1'),
    ('v4-32', 16, 4, '2x2x4'),
    ('v5litepod-1', 1, 1, '1x1'),
    ('v5litepod-8', 8, 1, '2x4'),
    ('v5litepod-16', 16, 4, '4x4'),
    ('v5litepod-256', 256, 64, '16x16'),
    ('v5p-8', 4, 1, '2x2x1'),
    ('v5p-128', 64, 16, '4x4x4'),
    ('v6e-4', 4, 1, '2x2'),
    ('v6e-64', 64, 16, '8x8'),
  ],
)
def test_slice_types(name, num_chips, num_hosts, topology):
  found = slices.parse(name)
  assert (found.num_chips, found.num_hosts) == (num_chips, num_hosts)
  assert found.topology == topology
  assert found.chips_per_host * num_hosts == num_chips


@pytest.mark.parametrize(
  ('name', 'message'),
  [
    ('v9-8', 'not known'),
    ('v4', 'not known'),
    ('v4-12', 'not a size of v4; there are v4-8, v4-16'),
    ('v5litepod-2', 'there are v5litepod-1, v5litepod-4, v5litepod-8'),
  ],
)
def test_slice_types_that_are_none(name, message):
  with pytest.raises(errors.InputError, match=message):
    slices.parse(name)
