"""Untrusted workdirs with valid checksums cannot run code."""

import copy
import os
import random
import types

import jax
import numpy as np
import psutil
import pytest

from genre_flax.checkpoints import checkpointer as checkpointer_lib
from genre_flax.inference import predictor as predictor_lib
from genre_flax.reports import split_metrics
from genre_flax.runtime import errors
from genre_flax.training import restore
from genre_flax.training import run_code
from genre_flax.training import setup as setup_lib
from genre_flax.training import train
from tests.faults import trainings
from tests.support import helpers

HOSTILE = (
  None,
  True,
  -1,
  0,
  10**12,
  10**400,
  float('inf'),
  float('nan'),
  '',
  'os:system',
  'posix:system',
  'builtins:exec',
  '../../etc/passwd',
  '\x1b[2J',
  [],
  [0] * 10,
  [[[[]]]],
  {},
  {'name': 'os:system'},
)


@pytest.fixture(scope='module')
def checkpoint(data_dir, tmp_path_factory):
  """The meta and the items of a checkpoint at step 0."""
  config = helpers.tiny_config(data_dir)
  dataset, setup = setup_lib.set_up(config, tmp_path_factory.mktemp('run'))
  state = restore.initial_state(config, dataset, setup)
  items = jax.device_get(state.to_items())
  return {
    **train.checkpoint_meta(config, dataset, setup.sizes),
    'code': run_code.describe(config, setup.model),
  }, items


@pytest.fixture
def meta(checkpoint):
  return copy.deepcopy(checkpoint[0])


@pytest.fixture
def items(checkpoint):
  return copy.deepcopy(checkpoint[1])


def save(workdir, items, meta):
  with checkpointer_lib.Checkpointer(workdir) as checkpointer:
    checkpointer.save(1, items, meta=meta)


def key_paths(value, path=()):
  """The path of each value in nested dicts and lists, except for the root."""
  children = ()
  if isinstance(value, dict):
    children = value.items()
  elif isinstance(value, list):
    children = enumerate(value[:3])
  for key, child in children:
    yield (*path, key)
    yield from key_paths(child, (*path, key))


def with_value(tree, path, value):
  changed = copy.deepcopy(tree)
  parent = changed
  for key in path[:-1]:
    parent = parent[key]
  parent[path[-1]] = value
  return changed


@trainings.short_and_long('num_cases', 15, 2000)
def test_hostile_values_of_meta(meta, items, tmp_path, monkeypatch, num_cases):
  calls = []
  monkeypatch.setattr(os, 'system', lambda *_: calls.append(1))
  rng = random.Random(0)
  paths = list(key_paths(meta))
  rng.shuffle(paths)
  num_refused = 0
  for case in range(num_cases):
    path, workdir = paths[case % len(paths)], tmp_path / str(case)
    changed = with_value(meta, path, rng.choice(HOSTILE))
    try:
      save(workdir, items, changed)
    except Exception:  # Not every value can be saved.
      continue
    try:
      predictor = predictor_lib.restore(workdir)
    except errors.InputError as e:
      assert 'Traceback' not in str(e)
      num_refused += 1
      continue
    except Exception as e:
      raise AssertionError(f'{path}: {e!r}') from e
    assert predictor.image_shape[0] * predictor.image_shape[1] < 1e8
  assert not calls
  assert num_refused > num_cases / 4  # Evaluation reads a part of the meta.


def test_custom_network_is_refused_by_default(
  meta, items, tmp_path, monkeypatch
):
  (tmp_path / 'hostile_net.py').write_text(
    "import pathlib\npathlib.Path('executed').touch()\nNet = None\n"
  )
  monkeypatch.chdir(tmp_path)
  monkeypatch.syspath_prepend(str(tmp_path))
  meta['config']['model']['name'] = 'hostile_net:Net'
  save(tmp_path / 'run', items, meta)
  with pytest.raises(errors.InputError, match='--allow_custom_code'):
    predictor_lib.restore(tmp_path / 'run')
  assert not (tmp_path / 'executed').exists()


@pytest.mark.parametrize('shape', [(3, 3), (9,), (1, 2, 3, 4, 5), ()])
def test_arrays_of_other_shapes_are_refused(meta, items, tmp_path, shape):
  items['model']['params']['head']['kernel'] = np.zeros(shape, np.float32)
  save(tmp_path, items, meta)
  with pytest.raises(errors.InputError, match='another network.*head.*kernel'):
    predictor_lib.restore(tmp_path)


def test_unavailable_memory_is_not_requested(
  meta, items, tmp_path, monkeypatch
):
  save(tmp_path, items, meta)
  free = types.SimpleNamespace(available=1000)
  monkeypatch.setattr(psutil, 'virtual_memory', lambda: free)
  with pytest.raises(errors.ResourceError, match='its arrays take'):
    predictor_lib.restore(tmp_path)


def test_hostile_genre_names_are_escaped(meta, items, tmp_path):
  names = ['\x1b[2J', '=cmd()', '<script>', 'a\nb', '"', "'", '\u202e', 'é']
  number = len(meta['genres'])
  meta['genres'] = [*names, *(f'g{n}' for n in range(number - len(names)))]
  meta['calibration']['genres'] = meta['genres']
  save(tmp_path, items, meta)
  predictor = predictor_lib.restore(tmp_path)
  assert predictor.genres[: len(names)] == tuple(names)
  scores = np.zeros(number)
  scores[[0, 3, 6]] = 1
  line = split_metrics.format_top3('x.jpg', scores, predictor.genres)
  assert line == r'x.jpg  \x1b[2J 1.00  a\nb 1.00  \u202e 1.00'
