"""Compiled programs that are kept between runs."""

import os

import jax


def keep_compiled_programs(
  folder: str | os.PathLike, *, on_cpu: bool = True
) -> None:
  """Keeps what takes over a second to compile, so that a restart need not.

  Call it after `platform.initialize_distributed`. JAX's own setting wins.

  Args:
    folder: to keep them in; '' for nowhere.
    on_cpu: whether programs for CPU are kept too. XLA cannot write those that
      convolve by oneDNN, and they compile in seconds.
  """
  if not os.fspath(folder) or jax.config.jax_compilation_cache_dir:
    return
  if jax.default_backend() == 'cpu' and not on_cpu:
    return
  jax.config.update('jax_compilation_cache_dir', os.fspath(folder))
  jax.config.update('jax_persistent_cache_min_compile_time_secs', 1.0)
