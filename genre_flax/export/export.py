"""Exports the network of a checkpoint as a folder."""

from collections.abc import Iterator
import contextlib
import importlib.resources
import json
import pathlib
from typing import Any

from absl import logging
from etils import epath
import jax
import numpy as np

from genre_flax.checkpoints import released
from genre_flax.export import config_json
from genre_flax.export import verification
from genre_flax.inference import predictor as predictor_lib
from genre_flax.models import params
from genre_flax.reports import split_metrics
from genre_flax.runtime import errors
from genre_flax.runtime import files
from genre_flax.training import train_state

# Packages of the extra `export`, by their import names.
_PACKAGES = (
  'flatbuffers',
  'huggingface_hub',
  'onnx',
  'onnxruntime',
  'safetensors',
)
# Formats of networks without their text branch.
_IMAGE_ALONE = ('stablehlo', 'timm', 'web')
# Files of the folder templates that are copied into an export.
_STATIC_FILES = {
  'onnx': ('predict.py',),
  'stablehlo': (),
  'timm': (),
  'release': (),
  'web': (
    'index.html',
    'style.css',
    'page.js',
    'decode.js',
    'resize.js',
    'onnxruntime_license.txt',
  ),
}


def run(
  workdir: epath.Path,
  *,
  format: str,
  step: str = 'best',
  output: pathlib.Path | None = None,
  ort_web: pathlib.Path | None = None,
  allow_custom_code: bool = False,
) -> int:
  """Exports a checkpoint and prints a summary.

  Raises:
    UserError: of `export`.
  """
  predictor = predictor_lib.restore(
    workdir, step=step, allow_custom_code=allow_custom_code
  )
  predictor.require_images_only('The export')
  if output is None:
    workdir = released.require_workdir(str(workdir), '--output')
    output = workdir / 'export' / f'{format}_{predictor.step}'
  _validate_output(output)
  output = pathlib.Path(output)
  logging.info('Exporting step %d as %s.', predictor.step, format)
  config = export(
    predictor, workdir=workdir, format=format, output=output, ort_web=ort_web
  )
  verified = config['verification']
  print(
    f'Verified on {verified["num_posters"]} {verified["posters"]}: the top-3'
    f' predictions of {verified["num_same_top_3"]} are the same, and scores'
    f' differ by at most {verified["max_difference"]:.1g}.'
  )
  print(f'Wrote {output}')
  if format == 'web':
    print(f'To view it: python -m http.server --directory {output}')
  return 0


def export(
  predictor: predictor_lib.Predictor,
  *,
  workdir: epath.Path,
  format: str,
  output: pathlib.Path,
  ort_web: pathlib.Path | None = None,
) -> dict[str, Any]:
  """Writes and verifies an export; an existing one is replaced.

  Returns:
    The content of config.json.

  Raises:
    InputError: `output` is not an export, the network cannot be exported in
      this format, or a package is missing.
    UserError: the export computes other scores.
    StorageError: the folder cannot be written.
  """
  _validate_output(output)
  with _require_extra(), files.replace_folder(output) as folder:
    folder = pathlib.Path(folder)
    is_image_alone = format in _IMAGE_ALONE and predictor.text is not None
    if is_image_alone:
      predictor = _without_text(predictor, format)
    if format == 'timm':
      from genre_flax.export import timm_export as writer

      predictor = writer.without_label_sets(predictor)
    elif format == 'stablehlo':
      from genre_flax.export import stablehlo_export as writer
    elif format == 'release':
      from genre_flax.export import release_export as writer

      predictor = writer.with_rounded_text(predictor)
    else:
      from genre_flax.export import onnx_export as writer
    config = config_json.make(predictor) | {'format': format}
    if is_image_alone:
      config['is_image_alone'] = True
    metrics = split_metrics.read(
      workdir, step=predictor.step, genres=predictor.genres
    )
    if format == 'web':
      from genre_flax.export import web_export

      web_export.write(folder, config, metrics=metrics, ort_web=ort_web)
    if format == 'release':
      config['metrics'] = split_metrics.read_by_split(
        workdir, step=predictor.step, genres=predictor.genres
      )
      config['num_train_examples'] = writer.num_train_examples(
        predictor, workdir
      )
    runner = writer.write(predictor, folder, config)
    config['verification'] = verification.verify(runner, predictor, workdir)
    if format in ('onnx', 'stablehlo'):
      _write_weights(folder / 'model.safetensors', predictor)
    if format != 'web':
      _write_card(folder, config, predictor, metrics)
    templates = importlib.resources.files(__package__) / 'templates'
    is_text_alone = predictor.config.model.name == params.TEXT
    for name in () if is_text_alone else _STATIC_FILES[format]:
      (folder / name).write_bytes((templates / name).read_bytes())
    content = json.dumps(config, indent=2)
    (folder / config_json.FILE_NAME).write_text(f'{content}\n')
  return config


def _without_text(predictor, format):
  if predictor.calibration_without_text is None:
    raise errors.InputError(
      f'--format={format} exports the branch of the image, which the network'
      f' {predictor.config.model.name!r} lacks; --format=onnx exports the text'
      ' branch.'
    )
  logging.info(
    'The export is of the image alone; --format=onnx exports the text branch'
    ' as well.'
  )
  return predictor.without_text()


def _write_card(folder, config, predictor, metrics):
  from genre_flax.export import model_card

  num_params = train_state.count_parameters(predictor.variables['params'])
  card = model_card.make(config, num_params=num_params, metrics=metrics)
  (folder / model_card.FILE_NAME).write_text(card, encoding='utf-8')


def _write_weights(path, predictor):
  """Writes the variables under names such as 'params/head/kernel'."""
  from safetensors import numpy as safetensors

  variables = jax.device_get(predictor.variables)
  flat = {
    name: np.ascontiguousarray(array)
    for name, array in params.flatten(variables, sep='/').items()
  }
  # Not `save_file`, which creates files that only the user can read.
  path.write_bytes(safetensors.save(flat, metadata={'format': 'flax'}))


@contextlib.contextmanager
def _require_extra() -> Iterator[None]:
  """Names the extra in the error for a missing package."""
  try:
    yield
  except ModuleNotFoundError as e:
    missing = (e.name or '').partition('.')[0]
    if missing not in _PACKAGES:
      raise
    raise errors.InputError(
      f'Exports need the package {missing!r}, which is not installed:'
      " `pip install -e '.[export]'`."
    ) from None


def _validate_output(path: epath.PathLike) -> None:
  """Raises InputError if a folder must not be written."""
  if files.is_remote(path):
    raise errors.InputError(
      f'{path} is not on a local disk; choose a local folder with --output.'
    )
  path = pathlib.Path(path)
  if path.exists() and not _is_replaceable(path):
    raise errors.InputError(
      f'{path} exists and is not an export of this program; choose another'
      ' --output.'
    )


def _is_replaceable(path):
  """Whether a path is an empty folder or an export."""
  if not path.is_dir():
    return False
  if not any(path.iterdir()):
    return True
  try:
    config = json.loads((path / config_json.FILE_NAME).read_text('utf-8'))
    return config['made_by'] == config_json.PROGRAM
  except (OSError, ValueError, KeyError, TypeError):
    return False
