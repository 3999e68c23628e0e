"""Programs that play gcloud, kubectl and Slurm, for the tests of launch."""

import hashlib
import json
import pathlib
import stat
import sys
import time
import zipfile

from launch.jobs import restarts
from launch.jobs import supervisor
from launch.jobs import wheel as wheel_lib
from launch.runtime import stop_request

# Isolated and without site, Python starts in a few milliseconds.
_HEAD = """#!{python} -IS
import json, os, pathlib, sys
root = pathlib.Path({root!r})
args = sys.argv[1:]
with open(root / 'calls.jsonl', 'a') as f:
  f.write(json.dumps([pathlib.Path(sys.argv[0]).name, *args]) + '\\n')
flags = dict(a[2:].partition('=')[::2] for a in args if a.startswith('--'))
words = [a for a in args if not a.startswith('--')]
def fail(text, status=1):
  print(text, file=sys.stderr)
  sys.exit(status)
def read(name, default=None):
  path = root / name
  return json.loads(path.read_text()) if path.exists() else default
def write(name, value):
  (root / name).write_text(json.dumps(value))
"""


class Fakes:
  """A folder of programs, what they were called with, and what they play."""

  def __init__(self, root: pathlib.Path):
    self.root = root
    self.bin = root / 'bin'
    self.bin.mkdir(parents=True)

  def add(self, name: str, body: str) -> None:
    """Puts a program, in Python, into the folder."""
    path = self.bin / name
    head = _HEAD.format(python=sys.executable, root=str(self.root))
    path.write_text(head + body)
    path.chmod(path.stat().st_mode | stat.S_IXUSR)

  def set(self, name: str, value) -> None:
    (self.root / name).write_text(json.dumps(value))

  def get(self, name: str):
    return json.loads((self.root / name).read_text())

  def calls(self, *words: str) -> list[list[str]]:
    """The calls so far that have all these words."""
    path = self.root / 'calls.jsonl'
    lines = path.read_text().splitlines() if path.exists() else []
    calls = [json.loads(line) for line in lines]
    return [call for call in calls if set(words) <= set(call)]


def make_wheel(folder: pathlib.Path, *, main: str) -> wheel_lib.Wheel:
  """A wheel whose train binary is `main`."""
  folder.mkdir(parents=True, exist_ok=True)
  path = folder / 'genre_flax-0.1.0-py3-none-any.whl'
  with zipfile.ZipFile(path, 'w') as archive:
    # A fixed time: the same content gives the same bytes.
    for name, text in (('__init__', ''), ('main', main)):
      archive.writestr(zipfile.ZipInfo(f'genre_flax/{name}.py'), text)
  sha256 = hashlib.sha256(path.read_bytes()).hexdigest()
  return wheel_lib.Wheel(path, sha256)


def supervise(backend, output, **limits) -> int:
  """Follows a job without waiting longer than it takes."""
  limits = {'backoff_seconds': 0.0, **limits}
  return supervisor.Supervisor(
    backend,
    restarts.Limits(**limits),
    keep=False,
    output=output,
    stop=stop_request.StopRequest(),
    sleep=lambda seconds: time.sleep(0.02),
  ).run()
