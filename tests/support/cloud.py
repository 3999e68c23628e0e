"""An emulator of cloud storage, for paths on gs://."""

import sys

from etils import epath
import fsspec
from fsspec.implementations import memory


class Cloud(memory.MemoryFileSystem):
  """Objects in the memory of the process; `writes` lists writes by path."""

  protocol = 'gcs'
  store = {}
  pseudo_dirs = ['']
  writes = []

  @classmethod
  def _strip_protocol(cls, path):
    return super()._strip_protocol(str(path).replace('gs://', '/', 1))

  def open(self, path, mode='rb', **kwargs):
    if 'r' not in mode:
      self.writes.append(self._strip_protocol(path))
    return super().open(path, mode, **kwargs)


def install(monkeypatch):
  """Serves gs:// from the emulator until the end of the test."""
  Cloud.store.clear()
  Cloud.writes.clear()
  Cloud.pseudo_dirs[:] = ['']
  cloud = Cloud()
  systems = {'gcs': cloud, 'file': fsspec.filesystem('file')}
  monkeypatch.setattr(
    epath.backend.fsspec_backend, '_get_filesystem', systems.__getitem__
  )
  # Not an attribute of the package, where `registry` is a mapping.
  registry = sys.modules['fsspec.registry']._registry
  monkeypatch.setitem(registry, 'gs', Cloud)
  return cloud
