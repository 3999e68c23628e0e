"""Several devices and hosts: the one place that knows of pmap and processes.

A step is written for one device and one slice of the batch. The state is the
same on all devices and is not stacked over them: `pmap` takes it with
`in_axes=None` and returns it with `out_axes=None`. That return is a promise
that all devices computed the same value, which holds as long as a step sums its
gradients, statistics and metrics over `AXIS_NAME`.
"""

import collections
from collections.abc import Callable, Generator, Sequence
import contextlib
import functools
import itertools
from typing import Any

import jax
from jax.experimental import multihost_utils
from jax.sharding import Mesh
from jax.sharding import NamedSharding
from jax.sharding import PartitionSpec
import numpy as np
from orbax.checkpoint import multihost

from genre_flax.runtime import target

AXIS_NAME = 'batch'
# A host that is this late has failed.
BARRIER_TIMEOUT_SECONDS = 600

Batch = dict[str, Any]


def parallelize(
  step: Callable[..., Any],
  *,
  donate_state: bool = False,
  devices: Sequence[jax.Device] | None = None,
) -> Callable[..., Any]:
  """Runs `step(state, batch)` on all devices of all hosts.

  Args:
    step: takes the state and one device's slice of the batch, with AXIS_NAME
      bound; its outputs must be the same on all devices.
    donate_state: whether the state's memory may be reused for the output.
    devices: to compile for, such as those of a slice that is not there; None
      for the devices of the run.

  Returns:
    A function of the unstacked state and a batch of `shard_batch`.
  """

  def step_for_platform(state, batch):
    # Asked when it is traced, since asking starts the backend.
    device = (devices or jax.local_devices())[0]
    with target.traced_for(device.platform):
      return step(state, batch)

  return jax.pmap(
    step_for_platform,
    axis_name=AXIS_NAME,
    in_axes=(None, 0),
    out_axes=None,
    donate_argnums=(0,) if donate_state else (),
    devices=devices,
  )


@functools.cache
def _local_mesh() -> Mesh:
  return Mesh(np.array(jax.local_devices()), (AXIS_NAME,))


def replicate(tree: Any) -> Any:
  """Places arrays on all local devices.

  A state must go through here before the first step: in multi-process runs,
  donating one that is not placed fails.
  """
  return jax.device_put(tree, NamedSharding(_local_mesh(), PartitionSpec()))


def shard_batch(batch: Batch) -> Batch:
  """Places a host's batch on its devices, an equal slice on each.

  Args:
    batch: arrays of [per_host_batch_size, ...].

  Returns:
    Arrays of [num_local_devices, per_device_batch_size, ...].
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
  """Places batches on the devices before they are asked for.

  Args:
    batches: of a host; closed with this generator.
    ahead: how many to place in advance; their copies run while the devices
      compute.

  Yields:
    Sharded batches, in order.
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
  """Number of processes of the run."""
  return jax.process_count()


def host_index() -> int:
  """Index of this process, from 0."""
  return jax.process_index()


def peak_device_memory_gb() -> float | None:
  """Most memory that a device of this host has had in use, in 10**9 bytes.

  None where the platform does not tell, as the CPU's.
  """
  stats = [device.memory_stats() or {} for device in jax.local_devices()]
  peaks = [one.get('peak_bytes_in_use') for one in stats]
  return None if None in peaks else max(peaks) / 1e9


def is_main_host() -> bool:
  """Whether this process writes logs and reports."""
  return jax.process_index() == 0


def num_devices() -> int:
  """Number of devices of all hosts."""
  return jax.device_count()


def describe_devices() -> str:
  """The devices in words, such as '8 x TPU v5 lite on 2 host(s)'."""
  kind = jax.devices()[0].device_kind
  return f'{num_devices()} x {kind} on {num_hosts()} host(s)'


def barrier(name: str) -> None:
  """Waits until all hosts have come here.

  Args:
    name: of this place in the program, for the message.

  Raises:
    RuntimeError: a host did not come within BARRIER_TIMEOUT_SECONDS.
  """
  # JAX's own barrier has no time limit; this one has.
  multihost.sync_global_processes(name, timeout=BARRIER_TIMEOUT_SECONDS)


def all_hosts_agree(value: bool) -> bool:
  """Whether `value` is true on every host; all hosts call it."""
  if num_hosts() == 1:
    return value
  return bool(multihost_utils.process_allgather(np.array(value)).all())
