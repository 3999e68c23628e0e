"""Names and sizes of TPU slices, by the tables of Google's documentation."""

import pytest

from genre_flax.runtime import accelerators
from genre_flax.runtime import errors


@pytest.mark.parametrize(
  ('type_name', 'name', 'num_chips', 'num_devices', 'num_hosts'),
  [
    ('v2-8', 'v2:2x2', 4, 8, 1),
    ('v3-32', 'v3:4x4', 16, 32, 4),
    ('v4-8', 'v4:2x2x1', 4, 4, 1),
    ('v4-32', 'v4:2x2x4', 16, 16, 4),
    ('v5litepod-1', 'v5e:1x1', 1, 1, 1),
    ('v5litepod-4', 'v5e:2x2', 4, 4, 1),
    ('v5litepod-8', 'v5e:2x4', 8, 8, 1),
    ('v5litepod-16', 'v5e:4x4', 16, 16, 4),
    ('v5litepod-256', 'v5e:16x16', 256, 256, 64),
    ('v5p-8', 'v5p:2x2x1', 4, 4, 1),
    ('v5p-128', 'v5p:4x4x4', 64, 64, 16),
    ('v6e-8', 'v6e:2x4', 8, 8, 1),
    ('v6e-32', 'v6e:4x8', 32, 32, 8),
    ('tpu7x-8', 'tpu7x:2x2x1', 4, 8, 1),
    ('tpu7x-128', 'tpu7x:4x4x4', 64, 128, 16),
  ],
)
def test_both_names_are_one_slice(
  type_name, name, num_chips, num_devices, num_hosts
):
  found = accelerators.parse_slice(type_name)
  assert accelerators.parse_slice(name) == found
  assert accelerators.parse_slice(f'tpu-{type_name}') == found
  assert (found.type, found.name) == (type_name, name)
  assert found.num_chips == num_chips
  assert found.num_devices == num_devices
  assert found.num_hosts == num_hosts


@pytest.mark.parametrize(
  ('name', 'message'),
  [
    ('v5litepod-6', r"'v5litepod-6' is not a slice of v5e.*v5litepod-16 \(v5e"),
    ('v5e:3x3', 'is not a slice of v5e'),
    ('v9-8', 'is not a TPU slice'),
    ('v5e', 'is not a TPU slice'),
    ('', 'is not a TPU slice'),
  ],
)
def test_unknown_slices_are_errors(name, message):
  with pytest.raises(errors.InputError, match=message):
    accelerators.parse_slice(name)
