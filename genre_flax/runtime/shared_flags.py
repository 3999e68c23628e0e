"""Flags that several programs have; each function defines the flag it names."""

import ast
from collections.abc import Callable
import re
import sys

from absl import flags
import ml_collections
from ml_collections import config_flags
from ml_collections.config_flags import config_path

from genre_flax.runtime import custom
from genre_flax.runtime import errors

# Option of a custom name, which the config file need not list.
_OPTION = re.compile(
  rf'--?config\.({"|".join(custom.OPTIONS.values())})\.(\w+)=(.*)', re.DOTALL
)

_ALLOWED = frozenset(
  prefix + suffix
  for prefix in ('-allow_custom_code', '--allow_custom_code')
  for suffix in ('', '=true', '=True', '=1')
)

DEFAULT_MODEL = 'poster-probe'
_MODEL = (
  'Workdir of a training run, name of a released model, or hf:OWNER/NAME of a'
  ' repository on the Hugging Face hub; --workdir is another name of the flag.'
)

# The flags belong to the programs, and appear in their --help.
flags.disclaim_key_flags()


def config(
  load_json: Callable[[str], ml_collections.ConfigDict],
  flag_values: flags.FlagValues = flags.FLAGS,
) -> flags.FlagHolder[ml_collections.ConfigDict]:
  """Defines --config and its overrides; `load_json` reads a config.json."""
  holder = config_flags.DEFINE_config_file(
    'config',
    None,
    'File of the training configuration, or config.json of a workdir.',
    flag_values,
  )
  allow_custom_code(flag_values)
  parser = flag_values['config'].parser
  load_python = parser.parse
  parser.parse = lambda path: _add_options(
    _load_json(path, load_json) if path.endswith('.json') else load_python(path)
  )
  return holder


def _load_json(path, load_json):
  """Reads the config of a workdir, which may come from somebody else."""
  values = load_json(path)
  own = custom.names(
    {key: config_path.get_value(key, values) for key in custom.OPTIONS}
  )
  # The config is read before the flags are parsed.
  if own and not _ALLOWED.intersection(sys.argv):
    raise errors.InputError(
      f'{path} names custom code, which would be run: {own}. If you trust the'
      ' workdir and the installed modules, pass --allow_custom_code.'
    )
  return values


def _add_options(
  values: ml_collections.ConfigDict,
) -> ml_collections.ConfigDict:
  """Adds the options of custom names on the command line to a config."""
  for match in filter(None, map(_OPTION.fullmatch, sys.argv)):
    section, key, value = match.groups()
    options = config_path.get_value(section, values)
    if key not in options:
      with options.unlocked():
        # For the type; the flag of the key sets the value.
        options[key] = _parse_literal(value)
  return values


def _parse_literal(value: str) -> bool | int | float | tuple | str:
  """The value of a Python literal of these types, else the text itself."""
  try:
    is_lower = value in ('true', 'false')
    parsed = ast.literal_eval(value.title() if is_lower else value)
  except (SyntaxError, ValueError):
    return value
  return parsed if isinstance(parsed, bool | int | float | tuple) else value


def model() -> flags.FlagHolder[str]:
  """Defines --model, and --workdir as another name."""
  holder = flags.DEFINE_string('model', DEFAULT_MODEL, _MODEL)
  flags.DEFINE_alias('workdir', 'model')
  return holder


def models(several: str) -> flags.FlagHolder[list[str]]:
  """Defines --model, which may be repeated for the purpose `several`."""
  text = f'{_MODEL} Several {several}.'
  holder = flags.DEFINE_multi_string('model', [DEFAULT_MODEL], text)
  flags.DEFINE_alias('workdir', 'model')
  return holder


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
