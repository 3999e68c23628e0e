"""Process settings that JAX reads when it starts, and multi-process set-up.

JAX is imported inside the functions only, since a program may restart itself
first. Settings for speed, and how to disable them:

- huge pages: GLIBC_TUNABLES=glibc.malloc.hugetlb=0
- XLA's own convolutions on CPU: --xla_cpu_experimental_ynn_fusion_type=... in
  XLA_FLAGS
- fast compilation: --xla_backend_optimization_level=3 in XLA_FLAGS
- compilation cache: JAX_COMPILATION_CACHE_DIR, or an empty folder in the flag
- oneDNN convolutions (ops/cpu): GENRE_FLAX_ONEDNN=0

Factors measured on 2 cores of an Intel Xeon with jax 0.10.2 on 2026-11-30, as
medians of up to three runs each way in turn, training and inference: huge pages
1.01 and 1.12 of configs/finetune.py, 1.07 and 1.14 of configs/poster_cnn.py;
without YNNPACK 6 and 1.0, 1.07 and 1.17. Fast compilation divides the time of
`top3` for one poster by 1.2, and its memory by 1.3.
"""

from importlib import metadata
import os
import pathlib
import sys

from absl import logging
import jaxlib

from genre_flax.runtime import errors
from genre_flax.runtime import files

# Releases that the tests have passed with. XLA aborts the process on an unknown
# flag, and flags and custom calls change between releases.
TESTED_JAXLIB = ((0, 10), (0, 11), (0, 12))
# YNNPACK, the kernels for convolutions on CPU since jax 0.9, trains poster_cnn
# at 250 x 250 pixels 3 to 4 times slower than XLA's own kernels. An empty list
# of fusion types disables it.
_NO_YNNPACK = '--xla_cpu_experimental_ynn_fusion_type='
# Networks compile in half the time and then take 1.5 times as long per image.
_NO_OPTIMIZATION = '--xla_backend_optimization_level=0'
_NO_FUSION_EMITTERS = '--xla_cpu_use_fusion_emitters=false'  # Only in 0.10.

_TUNABLES = 'GLIBC_TUNABLES'
_HUGE_PAGES = 'glibc.malloc.hugetlb'
_HUGE_PAGES_SETTING = pathlib.Path(
  '/sys/kernel/mm/transparent_hugepage/enabled'
)
_PROCESS_VARIABLES = (
  'JAX_COORDINATOR_ADDRESS',
  'JAX_NUM_PROCESSES',
  'JAX_PROCESS_ID',
)


def restart_with_huge_pages() -> None:
  """Restarts this program with huge pages; to be called before JAX is imported.

  XLA's CPU backend allocates the buffers of a step at each step. With pages of
  4 KiB the kernel spends a tenth to a third of the step on page faults. glibc
  requests huge pages if a variable is set when the process starts.

  The process keeps its id, files and terminal. Nothing happens on systems
  without huge pages on request, or if GLIBC_TUNABLES already has the setting.
  """
  environment = with_huge_pages(os.environ)
  if environment.get(_TUNABLES) != os.environ.get(_TUNABLES):
    os.execve(sys.executable, [sys.executable, *sys.orig_argv[1:]], environment)


def with_huge_pages(environment: dict[str, str]) -> dict[str, str]:
  """Returns the environment of a process with huge pages, where available."""
  environment = dict(environment)
  tunables = environment.get(_TUNABLES, '')
  try:
    on_request = '[madvise]' in _HUGE_PAGES_SETTING.read_text()
  except OSError:  # Not Linux.
    on_request = False
  if on_request and _HUGE_PAGES not in tunables:
    request = f'{_HUGE_PAGES}=1'
    environment[_TUNABLES] = f'{tunables}:{request}' if tunables else request
  return environment


def configure(*, fast_compilation: bool = False) -> None:
  """Sets XLA's flags; to be called before JAX starts a backend.

  Flags that are already in `XLA_FLAGS` are kept.

  Args:
    fast_compilation: Whether to compile faster for programs that run slower.
      For programs that process a few images on CPU.
  """
  if not is_tested_jaxlib():
    logging.info(
      'The XLA flags for speed on CPU are not set: jaxlib %s is untested.',
      jaxlib.__version__,
    )
    return
  added = [_NO_YNNPACK]
  # A GPU's kernels would be slow; `jax_plugins` are those for GPU.
  if fast_compilation and not metadata.entry_points(group='jax_plugins'):
    added.append(_NO_OPTIMIZATION)
    if _jaxlib_release() == (0, 10):
      added.append(_NO_FUSION_EMITTERS)
  flags = os.environ.get('XLA_FLAGS', '')
  new = [flag for flag in added if flag.split('=')[0] not in flags]
  os.environ['XLA_FLAGS'] = ' '.join([flags, *new]).strip()


def is_tested_jaxlib() -> bool:
  """Whether the tests have passed with this release of jaxlib."""
  return _jaxlib_release() in TESTED_JAXLIB


def _jaxlib_release() -> tuple[int, ...]:
  return tuple(int(part) for part in jaxlib.__version__.split('.')[:2])


def use_compilation_cache(
  folder: str | os.PathLike | None = None, *, on_cpu: bool = True
) -> None:
  """Stores compiled programs, so that a restarted program need not compile.

  To be called after `initialize_distributed`. A folder that is already set in
  JAX, as by JAX_COMPILATION_CACHE_DIR, is kept.

  Args:
    folder: Folder of the cache; '' for none, None for that of the user.
    on_cpu: Whether to store programs for CPU. XLA cannot serialize programs
      with oneDNN convolutions; they compile in seconds.
  """
  import jax

  folder = files.cache_dir() / 'compiled' if folder is None else folder
  if not os.fspath(folder) or jax.config.jax_compilation_cache_dir:
    return
  if jax.default_backend() == 'cpu' and not on_cpu:
    return
  jax.config.update('jax_compilation_cache_dir', os.fspath(folder))
  jax.config.update('jax_persistent_cache_min_compile_time_secs', 1.0)


def initialize_distributed(*, detect: bool = False) -> None:
  """Connects the processes of a multi-host run; a single process is left alone.

  The environment variables JAX_COORDINATOR_ADDRESS ('host:port' of process 0),
  JAX_NUM_PROCESSES and JAX_PROCESS_ID (from 0) describe the processes.

  Args:
    detect: Whether to detect all three on a TPU pod, GKE, Slurm or MPI if they
      are not set.

  Raises:
    InputError: Only some of the variables are set, or a value is invalid.
    RuntimeError: The processes could not connect.
  """
  import jax

  values = {name: os.environ.get(name) for name in _PROCESS_VARIABLES}
  missing = [name for name, value in values.items() if not value]
  if missing and len(missing) < len(values):
    raise errors.InputError(
      f'{", ".join(missing)} not set: a multi-host run needs all of'
      f' {", ".join(values)}, a single process none of them.'
    )
  if missing and not detect:
    return
  address, *numbers = values.values()
  try:
    # Without arguments it detects them.
    arguments = [] if missing else [address, *map(int, numbers)]
    jax.distributed.initialize(*arguments)
  except (KeyError, ValueError) as e:
    raise errors.InputError(
      f'The settings of the cluster are incomplete or invalid: {e}. For a'
      f' single process omit --distributed; else set {", ".join(values)}.'
    ) from e
  logging.info(
    'Process %d of %d is connected.', jax.process_index(), jax.process_count()
  )
