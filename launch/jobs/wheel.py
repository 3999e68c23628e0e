"""This repository as a wheel: what machines elsewhere install."""

import dataclasses
import hashlib
import os
import pathlib
import shutil
import subprocess
import sys
import tempfile

from genre_flax.runtime import errors

ROOT = pathlib.Path(__file__).resolve().parents[2]
REQUIREMENTS = ROOT / 'launch' / 'requirements.txt'
WORKER_SCRIPT = ROOT / 'launch' / 'jobs' / 'worker.sh'
PACKAGES = ('genre_flax', 'configs', 'launch')
_SOURCES = ('setup.cfg', 'pyproject.toml', 'README.md', 'LICENSE', *PACKAGES)
# 1980-01-01, the first date that a zip file can hold: the same sources give the
# same bytes, whenever they are built.
_SOURCE_DATE_EPOCH = '315532800'


@dataclasses.dataclass(frozen=True)
class Wheel:
  """A wheel of this repository.

  Attributes:
    path: of the file.
    sha256: of its bytes, in hexadecimal.
  """

  path: pathlib.Path
  sha256: str

  @property
  def name(self) -> str:
    """The file's name."""
    return self.path.name


def build_command(folder: pathlib.Path) -> list[str]:
  """What a person types, in the repository's root, to do what `build` does."""
  code = (
    'import pathlib, sys; from launch.jobs import wheel;'
    ' print(wheel.build(pathlib.Path(sys.argv[1])))'
  )
  return ['python', '-c', code, str(folder)]


def build(folder: pathlib.Path) -> Wheel:
  """Builds the wheel of the working tree as it is now.

  Args:
    folder: for the wheel; made where there is none.

  Returns:
    The wheel.

  Raises:
    InputError: this is not a checkout of the repository.
    ResourceError: pip could not build it.
  """
  if not (ROOT / 'setup.cfg').exists():
    raise errors.InputError(
      f'There is no setup.cfg in {ROOT}: machines elsewhere get a wheel of this'
      ' repository, so start the launcher from a checkout of it.'
    )
  with tempfile.TemporaryDirectory() as scratch:
    # setuptools writes beside the sources, and reuses what it finds there.
    source = pathlib.Path(scratch) / 'source'
    source.mkdir()
    for name in _SOURCES:
      _copy(ROOT / name, source / name)
    built = pathlib.Path(scratch) / 'built'
    command = [sys.executable, '-m', 'pip', 'wheel', '--quiet', '--no-deps']
    done = subprocess.run(
      [*command, f'--wheel-dir={built}', str(source)],
      env={**os.environ, 'SOURCE_DATE_EPOCH': _SOURCE_DATE_EPOCH},
      capture_output=True,
      text=True,
      check=False,
    )
    if done.returncode:
      raise errors.ResourceError(
        f'pip could not build the wheel of {ROOT}. It said:\n'
        f'{done.stderr.strip()}'
      )
    (path,) = built.glob('*.whl')
    folder.mkdir(parents=True, exist_ok=True)
    final = folder / path.name
    shutil.copyfile(path, final)
  return Wheel(final, hashlib.sha256(final.read_bytes()).hexdigest())


def _copy(source: pathlib.Path, target: pathlib.Path) -> None:
  if source.is_dir():
    ignored = shutil.ignore_patterns('__pycache__', '*.egg-info')
    shutil.copytree(source, target, ignore=ignored)
  elif source.exists():
    shutil.copyfile(source, target)
