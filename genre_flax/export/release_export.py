"""Export as a released model, for the programs of this package."""

import dataclasses
import datetime
import json
import pathlib
from typing import Any

from etils import epath
import jax
import numpy as np
from safetensors import numpy as safetensors
from scipy import special

from genre_flax import config_validation
from genre_flax.checkpoints import released
from genre_flax.export import verification
from genre_flax.inference import predictor as predictor_lib
from genre_flax.models import params
from genre_flax.runtime import errors
from genre_flax.runtime import machine
from genre_flax.runtime import parallel

# Values that are also part of the checkpoint.
_STORED_TWICE = tuple(
  f'{key}{suffix}'
  for key in ('calibration', 'label_sets', 'thresholds')
  for suffix in ('', '_without_text')
)
# Keys of the config that hold paths of the machine of the training.
_PATHS = ('dataset.data_dir', 'dataset.cache_dir', 'init_from')


def write(
  predictor: predictor_lib.Predictor,
  folder: pathlib.Path,
  config: dict[str, Any],
) -> verification.Runner:
  """Writes the arrays, and adds the values that `released.read` reads."""
  meta = predictor.to_dict()
  for key in _PATHS:
    *sections, name = key.split('.')
    values = meta['config']
    for section in sections:
      values = values[section]
    values[name] = ''
  meta['config']['model']['dtype'] = 'float32'
  if meta['config']['pretrained'].endswith(config_validation.WEIGHT_SUFFIXES):
    meta['config']['pretrained'] = ''
  variables = jax.device_get(predictor.variables)
  published = released.read_published(predictor.config)
  flat = params.flatten(variables, sep='/')
  text_kernel = _text_kernel(predictor)
  changed = {
    path: np.ascontiguousarray(
      array, np.float16 if path == text_kernel else None
    )
    for path, array in flat.items()
    if path not in published or not np.array_equal(published[path], array)
  }
  content = safetensors.save(changed, metadata={'format': 'flax'})
  (folder / released.WEIGHTS_FILE).write_bytes(content)
  for key in (*_STORED_TWICE, 'inputs', 'outputs'):
    config.pop(key, None)
  config |= {
    'format': released.FORMAT,
    'checkpoint': meta,
    'checksum': released.checksum(variables),
    'date': datetime.date.today().isoformat(),
    'commit': machine.commit(pathlib.Path(__file__).parent),
  }
  (folder / released.CONFIG_FILE).write_text(json.dumps(config))
  read_back = predictor_lib.restore(epath.Path(folder))

  def run(images, *text):
    scores = verification.predict(read_back, images, text)
    return scores, special.logit(scores)

  return run


def _text_kernel(predictor: predictor_lib.Predictor) -> str | None:
  """The path of the largest array of a text branch, if there is one."""
  if predictor.text is None:
    return None
  is_alone = predictor.config.model.name == params.TEXT
  return f'params/{params.HEAD if is_alone else params.TEXT}/kernel'


def with_rounded_text(
  predictor: predictor_lib.Predictor,
) -> predictor_lib.Predictor:
  """The predictor with the kernel of the text branch as float16 stores it."""
  path = _text_kernel(predictor)
  if path is None:
    return predictor
  flat = params.flatten(jax.device_get(predictor.variables), sep='/')
  flat[path] = flat[path].astype(np.float16).astype(np.float32)
  variables = parallel.replicate(params.unflatten(flat, sep='/'))
  return dataclasses.replace(predictor, variables=variables)


def num_train_examples(
  predictor: predictor_lib.Predictor, workdir: epath.PathLike
) -> int | None:
  """The number of training posters; None without the dataset."""
  try:
    dataset = predictor.open_dataset(predictor.data_dir(workdir))
    return dataset.num_examples(predictor.config.dataset.train_split)
  except (errors.UserError, OSError, ValueError):
    return None
