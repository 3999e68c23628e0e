"""The training step compiled for a TPU slice, on a machine without a TPU.

The TPU compiler is part of the package `libtpu`. It is given the devices of a
slice by name, and compiles for them the step that a run there would execute.
"""

from collections.abc import Sequence
import dataclasses
import functools
from importlib import metadata
import importlib.util
import os
import re
import time
from typing import Any

import jax
from jax.experimental import topologies
import jax.numpy as jnp
import ml_collections

from genre_flax import config as config_lib
from genre_flax import config_validation
from genre_flax.runtime import accelerators
from genre_flax.runtime import errors
from genre_flax.runtime import target
from genre_flax.training import setup as setup_lib
from genre_flax.training import train_state

# Hosts with other than four chips; the compiler does not tell them by itself.
_CHIPS_PER_HOST = {'1x1': (1, 1, 1), '2x4': (2, 4, 1)}
# What libtpu would ask the metadata server of a TPU VM for, or wait for, and
# leave to use libtpu to the processes that train meanwhile.
_ENVIRONMENT = {
  'TPU_SKIP_MDS_QUERY': '1',
  'TPU_WORKER_HOSTNAMES': 'localhost',
  'TPU_WORKER_ID': '0',
  'TPU_ACCELERATOR_TYPE': 'v5litepod-8',
  'ALLOW_MULTIPLE_LIBTPU_LOAD': '1',
}
_SIZE = r'([\d.]+)([KMGT]?)'
_OUT_OF_MEMORY = (
  re.compile(rf'\({_SIZE}\) exceeds available HBM \({_SIZE}\)', re.I),
  re.compile(rf'Used {_SIZE} of {_SIZE} hbm', re.I),
)
_UNITS = {'': 1, 'K': 2**10, 'M': 2**20, 'G': 2**30, 'T': 2**40}


@dataclasses.dataclass(frozen=True)
class CompiledStep:
  """A step as the TPU compiler made it, or why it did not.

  Attributes:
    facts: what `lower` prints; sizes in bytes, a device and a step.
    program: its HLO text; empty where it does not fit.
  """

  facts: dict[str, Any]
  program: str


def slice_devices(topology: str) -> list[jax.Device]:
  """The devices of a slice, to compile for.

  Args:
    topology: generation and chips, such as 'v5e:4x4'.

  Returns:
    Devices, one a chip from v4 on, two a chip before.

  Raises:
    InputError: libtpu is not installed, or knows no such slice.
  """
  if importlib.util.find_spec('libtpu') is None:
    raise errors.InputError(
      'The TPU compiler is not installed; it needs no TPU, but Linux on x86-64:'
      " pip install -e '.[tpu]'"
    )
  os.environ.update(_ENVIRONMENT)
  generation, _, shape = topology.partition(':')
  options = {}
  if generation == 'v4':
    # Both cores of a chip as one device, as JAX has it on v4.
    options['chip_config_name'] = 'megacore'
  if generation in ('v5e', 'v6e') and shape in _CHIPS_PER_HOST:
    options['chips_per_host_bounds'] = _CHIPS_PER_HOST[shape]
  try:
    return list(
      topologies.get_topology_desc(
        platform='tpu', topology_name=topology, **options
      ).devices
    )
  except jax.errors.JaxRuntimeError as e:
    if not str(e).startswith('INVALID_ARGUMENT'):
      raise
    known = '\n  '.join(
      f'{name}: {", ".join(chip.topologies)}'
      for name, chip in accelerators.TPUS.items()
    )
    raise errors.InputError(
      f'--topology={topology} is no slice that the TPU compiler knows ({e}).'
      f' Write GENERATION:SHAPE, such as v5e:4x4. Among those it knows:'
      f'\n  {known}'
    ) from e


def compile_train_step(
  config: ml_collections.ConfigDict, topology: str, *, num_genres: int
) -> CompiledStep:
  """Compiles the step of a run for a slice; needs no data set.

  Args:
    config: with every key of configs/default.py.
    topology: of `slice_devices`.
    num_genres: labels of the data set.

  Returns:
    The step and its cost. Where it does not fit into the memory, 'fits' is
    false and its cost is None.

  Raises:
    InputError: the config does not fit, or `slice_devices` raises.
  """
  devices = slice_devices(topology)
  setup = _build(config, devices, num_genres)
  lowered = setup_lib.make_train_step(config, setup, devices=devices).lower(
    train_state.state_shapes(config, setup.variable_shapes, setup.optimizer),
    _batch_shapes(config, setup, num_genres, num_devices=len(devices)),
  )
  facts = _describe(config, setup, topology, devices)
  facts['num_genres'] = num_genres
  started = time.monotonic()
  try:
    compiled = lowered.compile()
  except jax.errors.JaxRuntimeError as e:
    needed, _ = parse_out_of_memory(str(e))
    facts['compile_seconds'] = time.monotonic() - started
    return CompiledStep(
      {
        **facts,
        'fits': False,
        'hbm_bytes_needed': needed,
        'flops': None,
        'bytes_accessed': None,
      },
      '',
    )
  facts['compile_seconds'] = time.monotonic() - started
  cost = compiled.cost_analysis()
  # The analysis counts the body of the loop over the parts of a batch once.
  parts = config.accumulate_steps
  return CompiledStep(
    {
      **facts,
      'fits': True,
      # Of the analysis, the number that the compiler holds against the memory.
      'hbm_bytes_needed': compiled.memory_analysis().peak_memory_in_bytes,
      'flops': cost['flops'] * parts,
      'bytes_accessed': cost['bytes accessed'] * parts,
    },
    compiled.as_text(),
  )


def parse_out_of_memory(message: str) -> tuple[int, int]:
  """Reads the compiler's refusal of a program that does not fit.

  Args:
    message: of its error.

  Returns:
    Bytes needed, and bytes that a device has.

  Raises:
    RuntimeError: it refused for another reason.
  """
  for pattern in _OUT_OF_MEMORY:
    if found := pattern.search(message):
      needed, needed_unit, available, available_unit = found.groups()
      return (
        int(float(needed) * _UNITS[needed_unit.upper()]),
        int(float(available) * _UNITS[available_unit.upper()]),
      )
  raise RuntimeError(f'The TPU compiler failed: {message}')


def available_hbm(device: jax.Device) -> int:
  """Bytes of memory that the compiler may use on a device.

  It tells them only when it refuses a program, so it is given one that needs
  64 TiB.
  """

  def too_large(x):
    return jnp.tile(x, (1 << 20, 1 << 9))[::-1].cumsum(axis=0)

  sharding = jax.sharding.SingleDeviceSharding(device)
  lowered = jax.jit(too_large, in_shardings=sharding).lower(
    jax.ShapeDtypeStruct((128, 128), jnp.float32)
  )
  try:
    lowered.compile()
  except jax.errors.JaxRuntimeError as e:
    return parse_out_of_memory(str(e))[1]
  raise RuntimeError('The TPU compiler accepted a program of 64 TiB.')


def _build(config, devices, num_genres):
  config = config.copy_and_resolve_references()
  if not config.dataset.synthetic_posters and not config.dataset.data_dir:
    config.dataset.data_dir = 'not read'
  config_validation.validate(config)
  return setup_lib.build(
    config,
    # Only constants of the learning rate depend on the number of posters.
    num_train_examples=config.batch_size,
    label_prior=[1 / num_genres] * num_genres,
    num_hosts=_num_hosts(devices),
    num_devices=len(devices),
  )


def _batch_shapes(config, setup, num_genres, *, num_devices):
  """Shapes of a batch of `input_pipeline.train_batches` on all devices."""
  height, width = config_lib.image_shape(config)
  examples = {
    'image': jax.ShapeDtypeStruct((height, width, 3), jnp.uint8),
    'labels': jax.ShapeDtypeStruct((num_genres,), jnp.float32),
    'mask': jax.ShapeDtypeStruct((), jnp.float32),
    'index': jax.ShapeDtypeStruct((), jnp.int32),
  }
  if config.dataset.cache == 'features':
    image = examples.pop('image')
    embed = functools.partial(setup.model.apply, train=False, method='embed')
    batch = jax.ShapeDtypeStruct((1, *image.shape), jnp.float32)
    with target.traced_for(target.PORTABLE):
      features = jax.eval_shape(embed, setup.variable_shapes, batch)
    examples['features'] = jax.ShapeDtypeStruct(
      features.shape[1:], features.dtype
    )
  per_device = setup.sizes.per_device_batch_size
  return jax.tree.map(
    lambda x: jax.ShapeDtypeStruct(
      (num_devices, per_device, *x.shape), x.dtype
    ),
    examples,
  )


def _num_hosts(devices: Sequence[jax.Device]) -> int:
  return len({device.process_index for device in devices})


def _describe(config, setup, topology, devices):
  height, width = config_lib.image_shape(config)
  return {
    'topology': topology,
    'device_kind': devices[0].device_kind,
    'num_devices': len(devices),
    'num_chips': len({tuple(device.coords) for device in devices}),
    'num_hosts': _num_hosts(devices),
    'model': config.model.name,
    'dtype': config.model.dtype,
    'image_height': height,
    'image_width': width,
    'accumulate_steps': config.accumulate_steps,
    'global_batch_size': setup.sizes.global_batch_size,
    'per_device_batch_size': setup.sizes.per_device_batch_size,
    'hbm_bytes_available': available_hbm(devices[0]),
    'versions': {name: metadata.version(name) for name in ('jax', 'libtpu')},
  }
