"""A stranger's workdir: no code of theirs runs.

The stranger can write whatever they like, with digests that fit it.
"""

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
from genre_flax.training import setup as setup_lib
from genre_flax.training import train
from tests.faults import outcomes as outcomes_lib
from tests.support import helpers

LENGTHS = pytest.mark.parametrize(
  'number',
  [40, pytest.param(2000, marks=[pytest.mark.drill, pytest.mark.slow])],
)
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
def run(data_dir, tmp_path_factory):
  """The meta and the items of a checkpoint at step 0."""
  config = helpers.tiny_config(data_dir)
  dataset, setup = setup_lib.set_up(config, tmp_path_factory.mktemp('run'))
  state = restore.initial_state(config, dataset, setup)
  meta = train.checkpoint_meta(config, dataset, setup.sizes)
  return meta, jax.device_get(state.to_items())


@pytest.fixture(scope='module')
def meta(run):
  return run[0]


@pytest.fixture(scope='module')
def items(run):
  return run[1]


def save(workdir, items, meta):
  with checkpointer_lib.Checkpointer(workdir) as checkpointer:
    checkpointer.save(1, items, meta=meta)


def places(value, path=()):
  """The path of every value in nested dicts and lists."""
  yield path
  children = ()
  if isinstance(value, dict):
    children = value.items()
  elif isinstance(value, list):
    children = enumerate(value[:3])
  for key, child in children:
    yield from places(child, (*path, key))


def with_value(tree, path, value):
  if not path:
    return value
  changed = copy.deepcopy(tree)
  place = changed
  for key in path[:-1]:
    place = place[key]
  place[path[-1]] = value
  return changed


def cases(meta, number):
  """Each value of the meta in turn, replaced by what cannot be."""
  rng = random.Random(0)
  paths = [path for path in places(meta) if path]
  rng.shuffle(paths)
  for turn in range(number):
    path = paths[turn % len(paths)]
    yield path, with_value(meta, path, rng.choice(HOSTILE))


@LENGTHS
def test_any_value_of_the_meta(meta, items, tmp_path, monkeypatch, number):
  outcomes = outcomes_lib.Outcomes(
    'each value of its meta replaced', group="a stranger's workdir"
  )
  ran = []
  monkeypatch.setattr(os, 'system', lambda *_: ran.append(1))
  for case, (path, changed) in enumerate(cases(meta, number)):
    workdir = tmp_path / str(case)
    try:
      save(workdir, items, changed)
    except Exception:  # It cannot be written, so it cannot be read.
      outcomes['not to be written'] += 1
      continue
    try:
      predictor = predictor_lib.restore(workdir)
    except errors.InputError as e:
      assert 'Traceback' not in str(e)
      outcomes['refused by name'] += 1
      continue
    except Exception as e:
      raise AssertionError(f'{path}: {e!r}') from e
    assert predictor.image_shape[0] * predictor.image_shape[1] < 1e8
    outcomes['read'] += 1
  outcomes.done()
  assert not ran
  assert outcomes['refused by name'] > number / 3


def test_a_network_of_the_strangers_is_refused_by_default(
  meta, items, tmp_path, monkeypatch
):
  code = "import pathlib\npathlib.Path('owned').touch()\n"
  (tmp_path / 'stranger_net.py').write_text(f'{code}Net = None\n')
  monkeypatch.chdir(tmp_path)
  monkeypatch.syspath_prepend(str(tmp_path))
  meta = copy.deepcopy(meta)
  meta['config']['model']['name'] = 'stranger_net:Net'
  save(tmp_path / 'run', items, meta)
  with pytest.raises(errors.InputError, match='--allow_custom_code'):
    predictor_lib.restore(tmp_path / 'run')
  assert not (tmp_path / 'owned').exists()


@pytest.mark.parametrize('shape', [(3, 3), (9,), (1, 2, 3, 4, 5), ()])
def test_arrays_of_other_shapes_are_not_read(meta, items, tmp_path, shape):
  changed = copy.deepcopy(items)
  changed['model']['params']['head']['kernel'] = np.zeros(shape, np.float32)
  save(tmp_path, changed, meta)
  with pytest.raises(errors.DamageError, match='another network.*head.*kernel'):
    predictor_lib.restore(tmp_path)


def test_no_memory_is_asked_for_that_is_not_there(
  meta, items, tmp_path, monkeypatch
):
  save(tmp_path, items, meta)
  free = types.SimpleNamespace(available=1000)
  monkeypatch.setattr(psutil, 'virtual_memory', lambda: free)
  with pytest.raises(errors.ResourceError, match='its arrays take'):
    predictor_lib.restore(tmp_path)


def test_hostile_names_are_shown_harmlessly(meta, items, tmp_path, capsys):
  names = ['\x1b[2J', '=cmd()', '<script>', 'a\nb', '"', "'", '\u202e', 'é']
  meta = copy.deepcopy(meta)
  number = len(meta['genres'])
  meta['genres'] = [*names, *(f'g{n}' for n in range(number - len(names)))]
  save(tmp_path, items, meta)
  predictor = predictor_lib.restore(tmp_path)
  assert predictor.genres[: len(names)] == tuple(names)
  scores = np.zeros(number)
  scores[[0, 3, 6]] = 1
  line = split_metrics.format_top3('x.jpg', scores, predictor.genres)
  assert line == r'x.jpg  \x1b[2J 1.00  a\nb 1.00  \u202e 1.00'
