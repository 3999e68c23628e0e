"""Two collections of synthetic posters, and the first as a dataset."""

from etils import epath
import pytest

from tests.support import prepared


@pytest.fixture(scope='module')
def posters(tmp_path_factory):
  return prepared.Posters(tmp_path_factory.mktemp('posters'), 12)


@pytest.fixture(scope='module')
def others(tmp_path_factory):
  return prepared.Posters(tmp_path_factory.mktemp('others'), 10, seed=1)


@pytest.fixture(scope='module')
def written(posters, tmp_path_factory):
  """A dataset to read and to copy."""
  data_dir = epath.Path(tmp_path_factory.mktemp('written'))
  assert posters.write(data_dir)
  return data_dir
