"""The training step compiled for a TPU slice, on a machine without a TPU.

The TPU compiler is part of the package `libtpu`. It compiles for the devices of
a slice, given by name, the step that a run on the slice would execute.
"""

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
from genre_flax.datasets.posters import text_features
from genre_flax.runtime import accelerators
from genre_flax.runtime import errors
from genre_flax.training import checks
from genre_flax.training import setup as setup_lib
from genre_flax.training import train_state

# Chips per host of slices that do not have four; the compiler needs them.
_CHIPS_PER_HOST = {'1x1': (1, 1, 1), '2x4': (2, 4, 1)}
# Values that libtpu would otherwise request from the metadata server of a TPU
# VM. The last one lets other processes use libtpu at the same time.
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


def slice_devices(topology: str) -> list[jax.Device]:
  """The devices of a slice, to compile for.

  Args:
    topology: generation and chips, such as 'v5e:4x4', or the slice's type,
      such as 'v5litepod-16'.

  Returns:
    One device per chip; two per chip before v4.

  Raises:
    InputError: libtpu is not installed, or does not support the slice.
  """
  if importlib.util.find_spec('libtpu') is None:
    raise errors.InputError(
      'The TPU compiler is not installed. It needs Linux on x86-64, but no TPU:'
      " pip install -e '.[tpu]'"
    )
  os.environ.update(_ENVIRONMENT)
  if ':' not in topology:
    topology = accelerators.parse_slice(topology).name
  generation, _, shape = topology.partition(':')
  options = {}
  if generation == 'v4':
    # JAX has one device for both cores of a v4 chip.
    options['chip_config_name'] = 'megacore'
  if generation in ('v5e', 'v6e') and shape in _CHIPS_PER_HOST:
    options['chips_per_host_bounds'] = _CHIPS_PER_HOST[shape]
  try:
    description = topologies.get_topology_desc(
      platform='tpu', topology_name=topology, **options
    )
  except jax.errors.JaxRuntimeError as e:
    if not str(e).startswith('INVALID_ARGUMENT'):
      raise
    supported = '\n  '.join(
      f'{name}: {", ".join(chip.topologies)}'
      for name, chip in accelerators.TPUS.items()
    )
    raise errors.InputError(
      f'--topology={topology} is no slice that the TPU compiler supports ({e}).'
      f' Expected GENERATION:SHAPE, such as v5e:4x4; some of those supported:'
      f'\n  {supported}'
    ) from e
  return list(description.devices)


def compile_train_step(
  config: ml_collections.ConfigDict, topology: str, *, num_genres: int
) -> tuple[dict[str, Any], str]:
  """Compiles the training step of a run for a slice, without a dataset.

  Returns:
    The facts that `genre_flax.lower` prints, with sizes in bytes per device and
    costs per device and step, and the HLO text. If the step does not fit into
    the memory, 'fits' is false, the costs are None and the text is empty.

  Raises:
    InputError: the config is invalid, or `slice_devices` raises.
  """
  devices = slice_devices(topology)
  config = config.copy_and_resolve_references()
  if not config.dataset.synthetic_posters and not config.dataset.data_dir:
    config.dataset.data_dir = 'not read'
  config_validation.validate(config)
  extra_inputs = text_features.side_inputs(config.model, ())
  setup = setup_lib.build(
    config,
    # Only constants of the learning rate depend on the number of posters.
    num_train_examples=config.batch_size,
    label_prior=[1 / num_genres] * num_genres,
    num_devices=len(devices),
    platform='tpu',
    extra_inputs=extra_inputs,
  )
  num_micro_batches = (
    setup.sizes.per_device_batch_size // setup.micro_batch_size
  )
  lowered = setup_lib.make_train_step(config, setup, devices=devices).lower(
    train_state.state_shapes(config, setup.variable_shapes, setup.optimizer),
    checks.batch_shapes(
      config,
      setup.model,
      setup.variable_shapes,
      num_genres=num_genres,
      leading=(len(devices), setup.sizes.per_device_batch_size),
      extra_inputs=extra_inputs,
    ),
  )
  facts = _describe(config, setup, topology, devices)
  facts['num_genres'] = num_genres
  program = ''
  started = time.monotonic()
  try:
    compiled = lowered.compile()
  except jax.errors.JaxRuntimeError as e:
    facts['hbm_bytes_needed'], _ = parse_out_of_memory(str(e))
    facts['flops'] = facts['bytes_accessed'] = None
  else:
    # The compiler compares this number with the memory of the device.
    memory = compiled.memory_analysis().peak_memory_in_bytes
    facts['hbm_bytes_needed'] = memory
    cost = compiled.cost_analysis()
    # The analysis counts the loop over micro-batches as one iteration.
    facts['flops'] = cost['flops'] * num_micro_batches
    facts['bytes_accessed'] = cost['bytes accessed'] * num_micro_batches
    program = compiled.as_text()
  facts['compile_seconds'] = time.monotonic() - started
  facts['fits'] = bool(program)
  return facts, program


def parse_out_of_memory(message: str) -> tuple[int, int]:
  """Parses the error of the compiler for a program that does not fit.

  Returns:
    Bytes needed, and bytes of memory of a device.

  Raises:
    RuntimeError: it is another error.
  """
  for pattern in _OUT_OF_MEMORY:
    if found := pattern.search(message):
      needed, needed_unit, available, available_unit = found.groups()
      return (
        int(float(needed) * _UNITS[needed_unit.upper()]),
        int(float(available) * _UNITS[available_unit.upper()]),
      )
  raise RuntimeError(f'The TPU compiler failed: {message}')


def _available_hbm(device):
  """Bytes of memory that the compiler may use on a device.

  The compiler only reports them if a program does not fit, so this compiles a
  program that needs 64 TiB.
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


def _describe(config, setup, topology, devices):
  height, width = config_lib.image_shape(config)
  return {
    'topology': topology,
    'device_kind': devices[0].device_kind,
    'num_devices': len(devices),
    'num_chips': len({tuple(device.coords) for device in devices}),
    'num_hosts': len({device.process_index for device in devices}),
    'model': config.model.name,
    'dtype': config.model.dtype,
    'image_height': height,
    'image_width': width,
    'micro_batch_size': config.micro_batch_size,
    'global_batch_size': setup.sizes.global_batch_size,
    'per_device_batch_size': setup.sizes.per_device_batch_size,
    'hbm_bytes_available': _available_hbm(devices[0]),
    'versions': {name: metadata.version(name) for name in ('jax', 'libtpu')},
  }
