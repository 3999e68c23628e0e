"""Compiled programs that are kept between runs."""

import os

import jax

from genre_flax.models import onednn


def keep_compiled_programs(folder: str | os.PathLike) -> None:
  """Keeps what takes over a second to compile, so that a restart need not.

  Call it after `platform.initialize_distributed`. JAX's own setting wins. On a
  CPU that convolves by oneDNN nothing is kept: XLA cannot write such programs,
  and those for CPU compile in seconds.

  Args:
    folder: to keep them in; '' for nowhere.
  """
  if not os.fspath(folder) or jax.config.jax_compilation_cache_dir:
    return
  if jax.default_backend() == 'cpu' and onednn.is_available():
    return
  jax.config.update('jax_compilation_cache_dir', os.fspath(folder))
  jax.config.update('jax_persistent_cache_min_compile_time_secs', 1.0)
