"""Sweeps over config keys, as Optuna studies that workers share."""

import warnings

from genre_flax.runtime import errors

try:
  import optuna
except ImportError:
  raise errors.InputError(
    "A sweep needs optuna: pip install -e '.[sweep]'"
  ) from None

optuna.logging.set_verbosity(optuna.logging.WARNING)
warnings.simplefilter('ignore', optuna.exceptions.ExperimentalWarning)
