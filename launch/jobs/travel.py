"""What of a job travels to machines elsewhere."""

from collections.abc import Sequence
import importlib.util
import pathlib
import re
import sysconfig

from genre_flax import config as config_lib
from genre_flax.runtime import custom
from genre_flax.runtime import errors
from launch.jobs import job as job_lib
from launch.jobs import wheel
from launch.runtime import config_file


def check_travels(
  job: job_lib.Job, *, schemes: Sequence[str] = ('gs://',)
) -> None:
  """Refuses what machines elsewhere do not have: paths, configs, code.

  Args:
    job: that runs on them.
    schemes: how the paths may begin that they do have.

  Raises:
    InputError: a path or a module is of this machine alone.
  """
  flags = ['workdir', 'data_dir', 'config.dataset.data_dir', 'output']
  flags += ['csv', 'images'] if job.binary == 'prepare' else []
  for flag in flags:
    _check_path(flag, job_lib.get_flag(job.args, flag), schemes)
  config = job_lib.get_flag(job.args, 'config')
  if config and not re.match(r'(\./)?configs/[^/]+\.py(:|$)', config):
    raise errors.InputError(
      f'--config={config} does not travel with the job; expected a file of this'
      " repository's configs/, such as configs/tpu_pod.py. Put yours there."
    )
  if config and job.binary == 'train':
    try:
      values = config_file.load(config)
    except Exception as e:  # A config is a program.
      raise errors.InputError(f'--config={config} cannot be read: {e}') from e
    _check_weights(job, values, schemes)
    _check_code(job, values)


def _check_path(flag, path, schemes):
  if path and not path.startswith(tuple(schemes)):
    raise errors.InputError(
      f'--{flag}={path} is a path of this machine, which the job would not'
      f' find; expected one that begins with {" or ".join(schemes)}.'
    )


def _check_weights(job, values, schemes):
  """Refuses files of weights, of the flag or else of the config."""
  weights = job_lib.get_flag(job.args, 'config.pretrained')
  if weights is None:
    weights = values.get('pretrained', '')
  # Names of weights are found anywhere.
  if (weights or '').endswith('.safetensors'):
    _check_path('config.pretrained', weights, schemes)


def _check_code(job, values):
  """Refuses code of one's own, named in the config, that would not travel."""
  names = config_lib.flatten(values.to_dict())
  for key in custom.OPTIONS:
    name = job_lib.get_flag(job.args, f'config.{key}') or names.get(key, '')
    module, is_custom, _ = name.partition(':')
    if not is_custom or module.split('.')[0] in wheel.PACKAGES:
      continue
    found = _find(module)
    if found is None:
      raise errors.InputError(
        f'--config.{key}={name}: there is no module {module!r} on this machine.'
      )
    if not _is_installed(found):
      raise errors.InputError(
        f'--config.{key}={name} is in {found}, which does not travel with the'
        ' job: put it into configs/, and call it'
        f' configs.{name.split(".")[-1]}.'
      )


def _find(module: str) -> str | None:
  """The file or folder of a module's package; None where there is none."""
  package = module.split('.')[0]
  try:
    spec = importlib.util.find_spec(package)
  except ValueError:
    return None
  if spec is None:
    return None
  return spec.origin or next(iter(spec.submodule_search_locations or ()), None)


def _is_installed(path: str) -> bool:
  """Whether a file is among Python's own, or the packages it has installed."""
  own = {sysconfig.get_path(name) for name in ('stdlib', 'purelib', 'platlib')}
  return path in ('built-in', 'frozen') or any(
    pathlib.Path(folder) in pathlib.Path(path).parents for folder in own
  )
