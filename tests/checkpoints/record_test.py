import json

from etils import epath
import numpy as np
import pytest

from genre_flax.checkpoints import checkpointer as checkpointer_lib
from genre_flax.checkpoints import record
from genre_flax.checkpoints import selection
from genre_flax.runtime import checksums
from genre_flax.runtime import errors
from tests.checkpoints import checkpointer_test

ITEMS = {'model': {'a': np.arange(3.0), 'b': [np.ones(2, np.float32)]}}
MADE = record.make(
  7,
  items=ITEMS,
  meta={'x': 0.1},
  metrics={'auc': 0.5},
  best_metric=selection.BestMetric('auc'),
)


def write(folder, made):
  path = epath.Path(folder) / '7' / 'record' / 'metadata'
  path.parent.mkdir(parents=True)
  path.write_text(json.dumps(made))
  return epath.Path(folder) / '7'


def test_a_record_is_read_as_written(tmp_path):
  found = record.read(write(tmp_path, MADE))
  assert (found['step'], found['metrics']) == (7, {'auc': 0.5})
  assert list(found['model']) == ["['a']", "['b'][0]"]
  record.check_arrays(found, 'model', ITEMS['model'])
  record.check_meta(found, {'x': 0.1})
  with pytest.raises(errors.DamageError, match='meta'):
    record.check_meta(found, {'x': 0.2})


@pytest.mark.parametrize(
  ('tree', 'name'),
  [
    ({'a': np.arange(3.0), 'b': [np.zeros(2, np.float32)]}, r"\['b'\]\[0\]"),
    ({'a': np.arange(3.0)}, r"\['b'\]\[0\]"),
    ({**ITEMS['model'], 'c': np.ones(1)}, r"\['c'\]"),
    ({'a': np.arange(3.0, dtype=np.float32), 'b': ITEMS['model']['b']}, 'a'),
  ],
)
def test_differing_arrays_are_damage(tree, name):
  with pytest.raises(errors.DamageError, match=f'1 of 2 .*{name}'):
    record.check_arrays(MADE, 'model', tree)


def test_a_record_of_another_step_is_damage(tmp_path):
  folder = write(tmp_path, MADE)
  folder.rename(epath.Path(tmp_path) / '8')
  with pytest.raises(errors.DamageError, match='belongs to step 7'):
    record.read(epath.Path(tmp_path) / '8')


@pytest.mark.parametrize('metrics', [3, [1], {'auc': 'high'}, {'auc': None}])
def test_metrics_that_are_not_numbers_are_damage(tmp_path, metrics):
  made = MADE | {'metrics': metrics}
  del made['checksum']
  made['checksum'] = checksums.of_json(made)
  with pytest.raises(errors.DamageError, match='not numbers'):
    record.read(write(tmp_path, made))


def test_a_deleted_record_is_damage(tmp_path):
  checkpointer_test.save(tmp_path, [(1, 0.5), (2, 0.7)], keep_best=9)
  (epath.Path(tmp_path) / 'checkpoints' / '2' / 'record').rmtree()
  with pytest.raises(errors.DamageError, match=r'missing.*Undamaged.* \[1\]'):
    checkpointer_lib.read_model(tmp_path, step='best')
  assert checkpointer_lib.read_model(tmp_path, step='1')[0] == 1


def test_a_checkpoint_saved_without_a_record_is_refused_and_not_moved(tmp_path):
  checkpointer_test.save(tmp_path, [(1, 0.5)])
  folder = epath.Path(tmp_path) / 'checkpoints' / '1'
  (folder / 'record').rmtree()
  items = json.loads((folder / '_CHECKPOINT_METADATA').read_text())
  del items['item_handlers']['record']
  (folder / '_CHECKPOINT_METADATA').write_text(json.dumps(items))
  with pytest.raises(errors.InputError, match='no checksums'):
    checkpointer_test.restore(tmp_path)
  assert folder.exists()


def test_a_checkpoint_with_damaged_metrics_is_never_deleted(tmp_path):
  checkpointer_test.save(tmp_path, [(1, 0.5), (2, 0.1)], keep_best=9)
  (tmp_path / 'checkpoints' / '1' / 'record' / 'metadata').write_text('{')
  assert checkpointer_test.save(tmp_path, [(3, 0.9)]) == [1, 3]
