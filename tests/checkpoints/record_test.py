import json

from etils import epath
import numpy as np
import pytest

from genre_flax.checkpoints import checkpointer as checkpointer_lib
from genre_flax.checkpoints import record
from genre_flax.runtime import errors
from tests.checkpoints import checkpointer_test

ITEMS = {'model': {'a': np.arange(3.0), 'b': [np.ones(2, np.float32)]}}
META = {'x': 0.1}


def write(folder, made):
  path = epath.Path(folder) / '7' / 'record' / 'metadata'
  path.parent.mkdir(parents=True)
  path.write_text(json.dumps(made))
  return epath.Path(folder) / '7'


def make(**changes):
  given = {'items': ITEMS, 'meta': META, 'metrics': {'auc': 0.5}, **changes}
  return record.make(7, **given)


def test_it_is_read_as_it_was_made(tmp_path):
  folder = write(tmp_path, make())
  found = record.read(folder)
  assert (found['step'], found['metrics']) == (7, {'auc': 0.5})
  assert list(found['model']) == ["['a']", "['b'][0]"]
  record.check_arrays(found, 'model', ITEMS['model'])
  record.check_meta(found, {'x': 0.1})
  assert record.read_metrics(folder) == {'auc': 0.5}


def test_metrics_that_are_not_finite_are_left_out(tmp_path):
  made = make(metrics={'auc': float('nan'), 'loss': 1})
  assert record.read_metrics(write(tmp_path, made)) == {'loss': 1.0}


@pytest.mark.parametrize(
  ('tree', 'words'),
  [
    ({'a': np.arange(3.0), 'b': [np.zeros(2, np.float32)]}, r"\['b'\]\[0\]"),
    ({'a': np.arange(3.0)}, r"\['b'\]\[0\]"),
    ({**ITEMS['model'], 'c': np.ones(1)}, r"\['c'\]"),
    ({'a': np.arange(3.0, dtype=np.float32), 'b': ITEMS['model']['b']}, 'a'),
  ],
)
def test_arrays_that_differ_are_named(tmp_path, tree, words):
  found = record.read(write(tmp_path, make()))
  with pytest.raises(errors.DamageError, match=f'1 of 2 .*{words}'):
    record.check_arrays(found, 'model', tree)


def test_another_meta_is_damage(tmp_path):
  found = record.read(write(tmp_path, make()))
  with pytest.raises(errors.DamageError, match='meta'):
    record.check_meta(found, {'x': 0.2})


def test_a_record_of_another_step_is_damage(tmp_path):
  folder = write(tmp_path, make())
  folder.rename(epath.Path(tmp_path) / '8')
  with pytest.raises(errors.DamageError, match='of step 7'):
    record.read(epath.Path(tmp_path) / '8')


@pytest.mark.parametrize('metrics', [3, [1], {'auc': 'high'}, {'auc': None}])
def test_metrics_that_are_no_numbers_are_damage(tmp_path, metrics):
  made = {k: v for k, v in make().items() if k != 'digest'}
  made['metrics'] = metrics
  made['digest'] = record.checksums.of_json(made)
  with pytest.raises(errors.DamageError, match='no numbers'):
    record.read(write(tmp_path, made))


def make_old(folder):
  """Makes a checkpoint what it was before there were records."""
  path = folder / '_CHECKPOINT_METADATA'
  text = json.loads(path.read_text())
  del text['item_handlers']['record']
  path.write_text(json.dumps(text))
  found = record.read_metrics(epath.Path(folder))
  (epath.Path(folder) / 'record').rmtree()
  (folder / 'metrics').mkdir()
  (folder / 'metrics' / 'metrics').write_text(json.dumps(found))


def test_a_checkpoint_of_before_is_read_and_said_to_be_unverified(
  tmp_path, caplog
):
  scores = [(1, 0.5), (2, 0.2)]
  checkpointer_test.save(tmp_path, scores, keep_best=9)
  for step, _ in scores:
    make_old(tmp_path / 'checkpoints' / str(step))
  step, meta, _ = checkpointer_lib.read_model(tmp_path, step='best')
  assert (step, meta) == (1, checkpointer_test.META)
  assert 'read unverified' in caplog.text
  # A run goes on from it, and what it saves has digests.
  assert checkpointer_test.save(tmp_path, [(3, 0.3)]) == [1, 3]
  assert record.read(epath.Path(tmp_path) / 'checkpoints' / '3') is not None


def test_without_its_record_a_checkpoint_is_damaged(tmp_path):
  checkpointer_test.save(tmp_path, [(1, 0.5), (2, 0.7)], keep_best=9)
  (epath.Path(tmp_path) / 'checkpoints' / '2' / 'record').rmtree()
  with pytest.raises(errors.DamageError, match=r'is missing.*whole: \[1\]'):
    checkpointer_lib.read_model(tmp_path, step='best')
  assert checkpointer_lib.read_model(tmp_path, step='1')[0] == 1


def test_one_of_unknown_worth_is_never_deleted(tmp_path):
  checkpointer_test.save(tmp_path, [(1, 0.5), (2, 0.1)], keep_best=9)
  (tmp_path / 'checkpoints' / '1' / 'record' / 'metadata').write_text('{')
  assert checkpointer_test.save(tmp_path, [(3, 0.9)]) == [1, 3]
