r"""Hands a trained network on: as ONNX, StableHLO, for timm, or as a page.

python -m genre_flax.export --workdir=WORKDIR --format=onnx
python -m genre_flax.export --workdir=WORKDIR --format=web --output=page

What it writes needs neither this package nor, but for StableHLO, JAX. Its
scores are compared with our own before it is kept.
"""

import os
import pathlib

from absl import flags
from etils import epath

from genre_flax.runtime import command_line
from genre_flax.runtime import errors
from genre_flax.runtime import platform

_WORKDIR = flags.DEFINE_string(
  'workdir', None, 'Folder of the training run.', required=True
)
_FORMAT = flags.DEFINE_enum(
  'format',
  None,
  ['onnx', 'stablehlo', 'timm', 'web'],
  'onnx: for ONNX Runtime and what else reads it. stablehlo: for JAX, without'
  ' this package. timm: for PyTorch, of a ViT, a ConvNeXt or an'
  ' EfficientNet-Lite. web: a page that names genres in the browser.',
  required=True,
)
_STEP = flags.DEFINE_string(
  'step',
  'best',
  'Checkpoint to use: best (by validation mean average precision), latest, or'
  ' the number of a step.',
)
_OUTPUT = flags.DEFINE_string(
  'output',
  None,
  'Folder to write; an earlier export is replaced, anything else is not.'
  ' Default: WORKDIR/export/FORMAT_STEP.',
)
_PUSH = flags.DEFINE_string(
  'push',
  None,
  'Upload the folder to this repository of the Hugging Face hub, as USER/NAME;'
  ' one that is new is made, and is private.',
)
_ORT_WEB = flags.DEFINE_string(
  'ort_web',
  None,
  'For --format=web: the tarball of onnxruntime-web, or the folder of it, that'
  ' is there already. Default: fetched once, by npm.',
)
_ALLOW_CUSTOM_CODE = flags.DEFINE_bool(
  'allow_custom_code',
  False,
  'Load a network that is not part of genre_flax, which the workdir names as'
  " 'module:attribute' and this machine has. That runs its code.",
)


def main(argv: list[str]) -> int:
  if len(argv) > 1:
    raise errors.InputError(
      f'Unexpected arguments: {argv[1:]}. Flags start with --.'
    )
  if _ORT_WEB.value and _FORMAT.value != 'web':
    raise errors.InputError('--ort_web is for --format=web alone.')
  platform.configure()

  # After the platform is set: these import jax.
  from genre_flax.export import run

  return run.run(
    epath.Path(os.path.expanduser(_WORKDIR.value)),
    form=_FORMAT.value,
    step=_STEP.value,
    output=_path(_OUTPUT.value),
    push=_PUSH.value,
    page_runtime=_path(_ORT_WEB.value),
    allow_custom_code=_ALLOW_CUSTOM_CODE.value,
  )


def _path(value: str | None) -> pathlib.Path | None:
  return pathlib.Path(os.path.expanduser(value)) if value else None


if __name__ == '__main__':
  platform.restart_with_huge_pages()
  command_line.run(main)
