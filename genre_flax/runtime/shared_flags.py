"""Flags that several programs have; each function defines the flag it names."""

import re
import shlex

from absl import flags
from etils import epath

# Folders of genre_flax/released, the default one first.
RELEASED_MODELS = ('poster-probe', 'poster-probe-text', 'poster-probe-small')
_MODEL = (
  'Workdir of a training run, name of a released model, or hf:OWNER/NAME of a'
  ' repository on the Hugging Face hub; --workdir is another name of the flag.'
)

# The flags belong to the programs, and appear in their --help.
flags.disclaim_key_flags()


def workdir(text: str) -> flags.FlagHolder[str]:
  """Defines --workdir, the folder of a training run."""
  holder = flags.DEFINE_string('workdir', None, text, required=True)
  flags.register_validator('workdir', _check_workdir)
  return holder


def model() -> flags.FlagHolder[str]:
  """Defines --model, and --workdir as another name."""
  holder = flags.DEFINE_string('model', RELEASED_MODELS[0], _MODEL)
  flags.register_validator('model', _check_workdir)
  flags.DEFINE_alias('workdir', 'model')
  return holder


def models(several: str) -> flags.FlagHolder[list[str]]:
  """Defines --model, which may be repeated for the purpose `several`."""
  text = f'{_MODEL} Several {several}'
  holder = flags.DEFINE_multi_string('model', [RELEASED_MODELS[0]], text)
  flags.register_validator(
    'model', lambda paths: all(map(_check_workdir, paths))
  )
  flags.DEFINE_alias('workdir', 'model')
  return holder


def _check_workdir(path: str | None) -> bool:
  """Refuses the folder of checkpoints of a run, and of one of them."""
  found = re.fullmatch(r'(.+)/checkpoints(?:/(\d+))?/*', path or '')
  if found and (epath.Path(found[1]) / 'config.json').exists():
    step = f', for predictions with --step={found[2]}' if found[2] else ''
    raise flags.ValidationError(
      f'expected the workdir of the run, {shlex.quote(found[1])}{step}'
    )
  return True


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


def no_text() -> flags.FlagHolder[bool]:
  """Defines --no_text."""
  return flags.DEFINE_bool(
    'no_text',
    False,
    'Predict from the image alone with a network that also reads the text on'
    ' posters.',
  )


def text_reader() -> flags.FlagHolder[str]:
  """Defines --text_reader."""
  return flags.DEFINE_string(
    'text_reader',
    '',
    "'module:attribute' of a custom reader of the text on posters; default:"
    ' RapidOCR, of the extra `ocr`.',
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
