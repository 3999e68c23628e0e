"""Devices and hosts: pmap, placement of arrays, and facts about processes.

A step is written for one device and its slice of the batch. The state is equal
on all devices and is not stacked over them: pmap takes it with `in_axes=None`
and returns it with `out_axes=None`. That requires a step to sum gradients,
statistics and metrics over `AXIS_NAME`.
"""

import collections
from collections.abc import Callable, Generator, Sequence
import contextlib
import functools
import itertools
from typing import Any

import jax
from jax.experimental import multihost_utils
import jax.numpy as jnp
from jax.sharding import Mesh
from jax.sharding import NamedSharding
from jax.sharding import PartitionSpec
import numpy as np

from genre_flax.runtime import target

AXIS_NAME = 'batch'

Batch = dict[str, Any]


def parallelize(
  step: Callable[..., Any],
  *,
  donate_state: bool = False,
  devices: Sequence[jax.Device] | None = None,
) -> Callable[..., Any]:
  """Runs `step(state, batch)` on all devices of all hosts.

  Args:
    step: Function of the state and one device's slice of the batch, with
      AXIS_NAME bound. Its outputs must be equal on all devices.
    donate_state: Whether the state's memory may be reused for the output.
    devices: Devices to compile for, such as those of an absent TPU slice. By
      default all devices of the run.

  Returns:
    A function of the unstacked state and a batch from `shard_batch`.
  """

  def step_for_platform(state, batch):
    # Evaluated during tracing, since listing devices starts the backend.
    device = (devices or jax.local_devices())[0]
    with target.traced_for(device.platform):
      return step(state, batch)

  is_checked = jax.config.jax_debug_nans or jax.config.jax_debug_infs
  parallel_step = jax.pmap(
    step_for_platform,
    axis_name=AXIS_NAME,
    in_axes=(None, 0),
    out_axes=None,
    donate_argnums=(0,) if donate_state and not is_checked else (),
    devices=devices,
  )
  return _repeat_invalid(parallel_step) if is_checked else parallel_step


def _repeat_invalid(parallel_step):
  """Repeats a step without compilation if an output is NaN or infinite.

  JAX then raises at the operation. It does so itself for `jax.jit`, but does
  not check the outputs of `jax.pmap` with out_axes=None (jax 0.10.2).
  """

  @functools.wraps(parallel_step)
  def checked_step(state, batch):
    out = parallel_step(state, batch)
    floats = [
      leaf
      for leaf in jax.tree.leaves(out)
      if jnp.issubdtype(leaf.dtype, jnp.floating)
    ]
    if not all(jnp.isfinite(leaf).all() for leaf in floats):
      with jax.disable_jit():
        out = parallel_step(state, batch)
    return out

  return checked_step


@functools.cache
def _local_mesh() -> Mesh:
  return Mesh(np.array(jax.local_devices()), (AXIS_NAME,))


def no_implicit_transfers() -> contextlib.AbstractContextManager[None]:
  """Disallows implicit transfers between the host and its devices.

  They are allowed while JAX debugs: with jax_debug_nans or jax_debug_infs it
  fetches every output, and with jax_disable_jit every operation is a program.
  """
  config = jax.config
  is_debugging = (
    config.jax_debug_nans or config.jax_debug_infs or config.jax_disable_jit
  )
  return jax.transfer_guard('allow' if is_debugging else 'disallow')


def replicate(tree: Any) -> Any:
  """Places arrays on all local devices.

  Required for a state before the first step: in multi-process runs, donating
  arrays that are not placed fails.
  """
  return jax.device_put(tree, NamedSharding(_local_mesh(), PartitionSpec()))


def shard_batch(batch: Batch) -> Batch:
  """Places a host's batch on its devices, an equal slice on each.

  Returns:
    Arrays of shape [num_local_devices, per_device_batch_size, ...].
  """
  num_devices = jax.local_device_count()
  sharding = NamedSharding(_local_mesh(), PartitionSpec(AXIS_NAME))
  return jax.device_put(
    {
      name: array.reshape(num_devices, -1, *array.shape[1:])
      for name, array in batch.items()
    },
    sharding,
  )


def shard_ahead(
  batches: Generator[Batch, None, None], *, ahead: int = 2
) -> Generator[Batch, None, None]:
  """Yields sharded batches in order, and places `ahead` of them in advance.

  They are copied while the devices compute. `batches` is closed with this
  generator.
  """
  with contextlib.closing(batches):
    placed = collections.deque(
      shard_batch(batch) for batch in itertools.islice(batches, ahead)
    )
    while placed:
      yield placed.popleft()
      placed.extend(
        shard_batch(batch) for batch in itertools.islice(batches, 1)
      )


def num_hosts() -> int:
  """The number of processes of the run."""
  return jax.process_count()


def is_main_host() -> bool:
  """Whether this process writes logs and reports."""
  return jax.process_index() == 0


def num_devices() -> int:
  """The number of devices of all hosts."""
  return jax.device_count()


def describe_devices() -> str:
  """A description such as '8 x TPU v5 lite on 2 host(s)'."""
  kind = jax.devices()[0].device_kind
  return f'{num_devices()} x {kind} on {num_hosts()} host(s)'


def peak_device_memory_gb() -> float | None:
  """Peak memory of a device of this host, the highest one, in 10**9 bytes.

  None on platforms without such statistics, such as CPU.
  """
  stats = [device.memory_stats() or {} for device in jax.local_devices()]
  peaks = [one.get('peak_bytes_in_use') for one in stats]
  return None if None in peaks else max(peaks) / 1e9


def barrier(name: str) -> None:
  """Waits until all hosts have called it with the same name.

  If a host has died, JAX's distributed runtime ends the others.
  """
  if num_hosts() > 1:
    multihost_utils.sync_global_devices(name)


def all_hosts_agree(value: bool) -> bool:
  """Whether `value` is true on every host; to be called on all hosts."""
  if num_hosts() == 1:
    return value
  return bool(multihost_utils.process_allgather(np.array(value)).all())
