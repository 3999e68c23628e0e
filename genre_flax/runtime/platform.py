"""What must be set before JAX starts a backend.

Nor is JAX imported here before a function needs it: a program may yet start
itself again, `huge_pages`.
"""

from importlib import metadata
import importlib.util
import mmap
import os
import pathlib
import resource
import sys

from absl import logging
import jaxlib

from genre_flax.runtime import errors

# YNNPACK, the CPU kernel library that XLA calls for convolutions since jax
# 0.9, trains poster_cnn at 250 x 250 pixels 3 to 4 times slower than XLA's own
# kernels do. An empty list of fusion types turns it off.
_CPU_FLAGS = ('--xla_cpu_experimental_ynn_fusion_type=',)
# A network compiles in half the time, and then takes half as long again an
# image: LLVM optimises nothing, and XLA's older emitters of loops write less
# for it to translate.
_QUICK_FLAGS = (
  '--xla_backend_optimization_level=0',
  '--xla_cpu_use_fusion_emitters=false',
)
_PROCESS_VARIABLES = (
  'JAX_COORDINATOR_ADDRESS',
  'JAX_NUM_PROCESSES',
  'JAX_PROCESS_ID',
)


def configure(*, compile_quickly: bool = False) -> None:
  """Sets XLA's flags and JAX's platforms; call it before any JAX array.

  What the user has put into `XLA_FLAGS` and `JAX_PLATFORMS` wins.

  Args:
    compile_quickly: whether it is over sooner if programs are compiled sooner
      and run slower; so for a few images.
  """
  flags = os.environ.get('XLA_FLAGS', '')
  quick = _QUICK_FLAGS if compile_quickly and not _has_accelerator() else ()
  for flag in _CPU_FLAGS + quick:
    name = flag.split('=')[0]
    if name not in flags and is_in_jaxlib(name.lstrip('-')):
      flags = f'{flags} {flag}'.strip()
  if flags:
    os.environ['XLA_FLAGS'] = flags
  import jax

  # The TPU's library is installed to compile for slices that are not here.
  # Asked for devices, it looks for them and prints several lines of complaint.
  if not jax.config.jax_platforms and _has_libtpu() and not _has_accelerator():
    jax.config.update('jax_platforms', 'cpu')


def _has_libtpu() -> bool:
  return importlib.util.find_spec('libtpu') is not None


def _has_accelerator() -> bool:
  """Whether there may be a TPU, or a GPU."""
  if metadata.entry_points(group='jax_plugins'):
    return True
  if not _has_libtpu():
    return False
  try:
    from jax._src import hardware_utils

    chips, _ = hardware_utils.num_available_tpu_chips_and_device_id()
  except (AttributeError, ImportError):  # No public call tells.
    return True
  return bool(chips)


def default_cache_dir() -> pathlib.Path:
  """The user's cache folder for this package ($XDG_CACHE_HOME or ~/.cache)."""
  cache = os.environ.get('XDG_CACHE_HOME') or pathlib.Path.home() / '.cache'
  return pathlib.Path(cache) / 'genre_flax'


def initialize_distributed(*, detect: bool = False) -> None:
  """Joins the processes of a multi-host run; does nothing for a single one.

  The environment variables JAX_COORDINATOR_ADDRESS ('host:port' of process 0),
  JAX_NUM_PROCESSES and JAX_PROCESS_ID (from 0) name the processes. Where they
  are not set, `detect` asks the cluster's own environment.

  Args:
    detect: take all three from the environment of a TPU pod, GKE, Slurm or MPI.

  Raises:
    InputError: only some of the variables are set.
    RuntimeError: the processes did not find each other.
  """
  import jax

  given = {name: os.environ.get(name) for name in _PROCESS_VARIABLES}
  if any(given.values()):
    missing = [name for name, value in given.items() if not value]
    if missing:
      raise errors.InputError(
        f'Of {", ".join(given)}, {", ".join(missing)} are not set; a multi-host'
        ' run needs all of them, a single process none.'
      )
    # Without collectives of its own the CPU backend cannot cross processes.
    jax.config.update('jax_cpu_collectives_implementation', 'gloo')
    address, num_processes, process_id = given.values()
    jax.distributed.initialize(
      coordinator_address=address,
      num_processes=int(num_processes),
      process_id=int(process_id),
    )
  elif detect:
    jax.distributed.initialize()
  else:
    return
  logging.info(
    'Process %d of %d is up.', jax.process_index(), jax.process_count()
  )


def peak_memory_gb() -> float:
  """Most memory that this process has had so far, in 10**9 bytes."""
  peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
  return peak * (1 if sys.platform == 'darwin' else 1024) / 1e9


def is_in_jaxlib(text: str) -> bool:
  """Whether `text` is among the strings of jaxlib's libraries, as a whole.

  jaxlib has no call that tells which flags and operations it knows. XLA aborts
  the process on one that it does not, and they change with every release: the
  name of a flag that was taken away may still be there as a part of others.
  """
  for library in sorted(pathlib.Path(jaxlib.__file__).parent.glob('*.so')):
    if library.stat().st_size < 1 << 20:
      continue
    with (
      open(library, 'rb') as f,
      mmap.mmap(f.fileno(), 0, access=mmap.ACCESS_READ) as content,
    ):
      if content.find(b'\0%s\0' % text.encode()) >= 0:
        return True
  return False
