"""Flags that several programs have; each function defines the flag it names."""

from absl import flags

# The flags belong to the programs, and appear in their --help.
flags.disclaim_key_flags()


def workdir() -> flags.FlagHolder[str]:
  """Defines --workdir, the folder of one run."""
  return flags.DEFINE_string(
    'workdir', None, 'Folder of the training run.', required=True
  )


def workdirs(several: str) -> flags.FlagHolder[list[str]]:
  """Defines --workdir, which may be repeated for the purpose `several`."""
  return flags.DEFINE_multi_string(
    'workdir',
    None,
    f'Folder of a training run; several {several}.',
    required=True,
  )


def step() -> flags.FlagHolder[str]:
  """Defines --step, the checkpoint to use."""
  return flags.DEFINE_string(
    'step',
    'best',
    'Checkpoint to use: best (by config.best_metric), latest, or the number of'
    ' a step.',
  )


def data_dir() -> flags.FlagHolder[str | None]:
  """Defines --data_dir, a dataset other than that of the training."""
  return flags.DEFINE_string(
    'data_dir',
    None,
    'Dataset that `genre_flax.prepare` wrote; default: that of the training.',
  )


def batch_size() -> flags.FlagHolder[int]:
  """Defines --batch_size."""
  return flags.DEFINE_integer(
    'batch_size', 64, 'Posters per step, over all devices.', lower_bound=1
  )


def bootstrap_samples() -> flags.FlagHolder[int]:
  """Defines --bootstrap_samples."""
  return flags.DEFINE_integer(
    'bootstrap_samples',
    1000,
    'Resamples for the 95 % intervals; 0 for no intervals.',
    lower_bound=0,
  )


def allow_custom_code(
  flag_values: flags.FlagValues = flags.FLAGS,
) -> flags.FlagHolder[bool]:
  """Defines --allow_custom_code."""
  return flags.DEFINE_bool(
    'allow_custom_code',
    False,
    "Import custom code that a workdir names as 'module:attribute'. This runs"
    ' the code.',
    flag_values=flag_values,
  )


def distributed() -> flags.FlagHolder[bool]:
  """Defines --distributed."""
  return flags.DEFINE_bool(
    'distributed',
    False,
    'Join a multi-host run, with the settings of the cluster (TPU pod, GKE,'
    ' Slurm). Not needed with JAX_COORDINATOR_ADDRESS, JAX_NUM_PROCESSES and'
    ' JAX_PROCESS_ID.',
  )
