"""Export as a static web page that predicts genres in the browser.

ONNX Runtime Web runs the network. Its npm package is pinned by version and
checksum, wherever it is downloaded from.
"""

import base64
from collections.abc import Mapping
import hashlib
import io
import pathlib
import re
import shutil
import subprocess
import tarfile
import tempfile
from typing import Any

from absl import logging
from etils import epath
import huggingface_hub

from genre_flax.runtime import errors
from genre_flax.runtime import files
from genre_flax.runtime import regular_files
from genre_flax.runtime import text

PACKAGE = 'onnxruntime-web'
VERSION = '1.30.0'
# SHA-512 of the tarball, as npm publishes it.
_INTEGRITY = (
  'q0y+JrrtukXSzsBWEMccVfqX25LRmosXHF+CaRJmg8pZClzcV7svNc4rKY3jL02V'
  'b7QmRMDs1SigqR4CXAfKYQ=='
)
_RUNTIME_FILES = ('ort.wasm.bundle.min.mjs', 'ort-wasm-simd-threaded.wasm')
_MAX_BYTES = 1 << 26
# npm retries failed downloads within this time.
_TIMEOUT_SECONDS = 600


def write(
  folder: pathlib.Path,
  config: dict[str, Any],
  *,
  metrics: Mapping[str, Any] | None,
  ort_web: pathlib.Path | None,
) -> None:
  """Writes ONNX Runtime Web and README.md, which describes a Space to hubs.

  The metrics that the page shows are added to `config`.

  Raises:
    UserError: see `runtime_files`.
  """
  config['metrics'] = metrics and {
    'split': metrics['split'],
    'num_examples': metrics['num_examples'],
    'hit_at_3': _hit_at_3(metrics),
  }
  runtime = folder / 'onnxruntime'
  runtime.mkdir()
  for name, content in runtime_files(ort_web).items():
    (runtime / name).write_bytes(content)
  card = huggingface_hub.SpaceCardData(
    title='Film genres from a poster', sdk='static'
  )
  network = text.for_markdown(config['network']['name'])
  is_image_alone = config.get('is_image_alone')
  note = ' It predicts from the image alone.' if is_image_alone else ''
  (folder / 'README.md').write_text(
    f'---\n{card.to_yaml()}\n---\n\n'
    f'A web page that predicts the genres of a film from its poster with the'
    f' network {network}.{note} It runs in the browser; nothing is uploaded.'
    ' Serve this folder with any static web server, such as'
    ' `python -m http.server`.\n',
    encoding='utf-8',
  )


def _hit_at_3(metrics):
  """The metric, of the image alone where the network has a text branch."""
  entry = metrics['metrics'].get('hit_at_3')
  if entry and 'without_text' in metrics:
    value = metrics['without_text']['hit_at_3']['value']
    return entry | {'value': value, 'low': None, 'high': None}
  return entry


def runtime_files(tarball: pathlib.Path | None = None) -> dict[str, bytes]:
  """The files of ONNX Runtime Web that the page needs, by name.

  Args:
    tarball: of the npm package; None to download it with npm, once, into the
      user's cache folder.

  Raises:
    InputError: the tarball is not that of the pinned version.
    ResourceError: the download failed.
  """
  if tarball is not None:
    return _unpack(_read(tarball))
  cached = files.cache_dir() / f'{PACKAGE}-{VERSION}.tgz'
  try:
    return _unpack(_read(cached))
  except errors.InputError:  # Missing or damaged.
    content = _download()
  with files.storage_errors(cached):
    cached.parent.mkdir(parents=True, exist_ok=True)
  files.write_atomic(cached, content)
  return _unpack(content)


def _read(path):
  """The content of a tarball, if its checksum is correct."""
  try:
    content = regular_files.read(epath.Path(path), max_bytes=_MAX_BYTES)
  except regular_files.NotReadableError as e:
    raise errors.InputError(f'{path} cannot be read: {e}.') from None
  checksum = base64.b64encode(hashlib.sha512(content).digest()).decode()
  if checksum != _INTEGRITY:
    raise errors.InputError(
      f'{path} is not the tarball of {PACKAGE} {VERSION}, or is damaged.'
      f' Download it with `npm pack {PACKAGE}@{VERSION}`.'
    )
  return content


def _unpack(content):
  with tarfile.open(fileobj=io.BytesIO(content)) as archive:
    return {
      name: archive.extractfile(f'package/dist/{name}').read()
      for name in _RUNTIME_FILES
    }


def _download():
  """The content of the tarball, from npm's configured registry."""
  npm = shutil.which('npm')
  if npm is None:
    raise _download_error('npm is not installed')
  logging.info('Downloading %s %s with npm (33 MB).', PACKAGE, VERSION)
  with tempfile.TemporaryDirectory() as folder:
    try:
      result = subprocess.run(
        [npm, 'pack', f'{PACKAGE}@{VERSION}', '--pack-destination', folder],
        cwd=folder,
        capture_output=True,
        text=True,
        errors='replace',
        timeout=_TIMEOUT_SECONDS,
        check=False,
      )
    except (OSError, subprocess.TimeoutExpired) as e:
      raise _download_error(str(e)) from e
    tarballs = list(pathlib.Path(folder).glob('*.tgz'))
    if result.returncode or not tarballs:
      raise _download_error(_npm_error(result.stderr))
    return _read(tarballs[0])


def _npm_error(stderr: str) -> str:
  """The first line of npm's output that describes the error."""
  lines = re.findall(
    r'^npm error (?!(?:code|syscall|errno|path)\b)(.+)', stderr, re.MULTILINE
  )
  return (lines or [stderr])[0].strip()


def _download_error(reason: str) -> errors.ResourceError:
  return errors.ResourceError(
    f'{PACKAGE} {VERSION} could not be downloaded: {reason}. Run `npm pack'
    f' {PACKAGE}@{VERSION}` on a machine with npm and a network, and pass the'
    ' file with --ort_web=FILE.'
  )
