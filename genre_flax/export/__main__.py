r"""Exports a network: as ONNX, StableHLO, for timm, or as a web page.

python -m genre_flax.export --model=WORKDIR --format=onnx
python -m genre_flax.export --model=WORKDIR --format=web --output=page

An export runs without this package, except for --format=release, which the
programs of this package read; StableHLO needs JAX. Its scores are verified
before the folder is written.
"""

import os
import pathlib

from absl import flags
from etils import epath

from genre_flax.runtime import command_line
from genre_flax.runtime import errors
from genre_flax.runtime import platform
from genre_flax.runtime import shared_flags

_MODEL = shared_flags.model()
_FORMAT = flags.DEFINE_enum(
  'format',
  None,
  ['onnx', 'release', 'stablehlo', 'timm', 'web'],
  'onnx: for ONNX Runtime and others. release: for the programs of this'
  ' package, in place of a workdir. stablehlo: for JAX, without this package.'
  ' timm: for PyTorch; a ViT, a ConvNeXt or an EfficientNet-Lite. web: a web'
  ' page that predicts genres in the browser.',
  required=True,
)
_STEP = shared_flags.step()
_OUTPUT = flags.DEFINE_string(
  'output',
  None,
  'Folder to write. An existing export is replaced; any other folder is an'
  ' error. Default: WORKDIR/export/FORMAT_STEP.',
)
_ORT_WEB = flags.DEFINE_string(
  'ort_web',
  None,
  'For --format=web: the tarball of onnxruntime-web. Default: downloaded once'
  ' with npm.',
)
_ALLOW_CUSTOM_CODE = shared_flags.allow_custom_code()


def main(argv: list[str]) -> int:
  command_line.refuse_arguments(argv)
  if _ORT_WEB.value and _FORMAT.value != 'web':
    raise errors.InputError('--ort_web requires --format=web.')
  platform.configure()

  # Imported after the platform is configured, since it imports jax.
  from genre_flax.export import export

  return export.run(
    epath.Path(os.path.expanduser(_MODEL.value)),
    format=_FORMAT.value,
    step=_STEP.value,
    output=_path(_OUTPUT.value),
    ort_web=_path(_ORT_WEB.value),
    allow_custom_code=_ALLOW_CUSTOM_CODE.value,
  )


def _path(value: str | None) -> pathlib.Path | None:
  return pathlib.Path(os.path.expanduser(value)) if value else None


if __name__ == '__main__':
  platform.restart_with_huge_pages()
  command_line.run(main)
