"""Equal predictions for all batch sizes, devices and processes."""

import csv
import json

import numpy as np
import pytest

from tests.faults import trainings
from tests.training import multi_process_test

pytestmark = pytest.mark.slow


@pytest.fixture(scope='module')
def workdir(data_dir, tmp_path_factory):
  workdir = tmp_path_factory.mktemp('exact')
  trainings.run(
    'main',
    *multi_process_test.CONFIG,
    f'--workdir={workdir}',
    f'--config.dataset.data_dir={data_dir}',
    '--config.dataset.test_split=',
  )
  return workdir


def evaluate(workdir, output, *, batch_size, num_devices, num_processes):
  """The names and scores of the predictions, and the metrics."""
  arguments = (
    'top3',
    f'--workdir={workdir}',
    '--split=train',
    f'--output={output}',
    f'--batch_size={batch_size}',
    '--bootstrap_samples=20',
  )
  if num_processes == 2:
    multi_process_test.run_both(*arguments)
  else:
    trainings.run(*arguments, num_devices=num_devices)
  with (output / 'predictions.csv').open() as file:
    rows = list(csv.DictReader(file))
  names = [row.pop('poster') for row in rows]
  scores = np.array([list(row.values())[:-1] for row in rows], float)
  report = json.loads((output / 'metrics.json').read_text())
  return names, scores, report['metrics']


LONG = [
  (batch_size, *counts)
  for batch_size in (1, 7, 64)
  for counts in ((1, 1), (2, 1), (8, 1), (1, 2))
]


@trainings.short_and_long('settings', [(7, 2, 1)], LONG)
def test_evaluation(workdir, tmp_path, settings):
  names, scores, metrics = evaluate(
    workdir, tmp_path / 'out', batch_size=16, num_devices=1, num_processes=1
  )
  assert len(names) == 93
  for number, (batch_size, num_devices, num_processes) in enumerate(settings):
    other_names, other_scores, other_metrics = evaluate(
      workdir,
      tmp_path / str(number),
      batch_size=batch_size,
      num_devices=num_devices,
      num_processes=num_processes,
    )
    assert other_names == names
    np.testing.assert_allclose(other_scores, scores, rtol=0, atol=1e-5)
    for name, entry in metrics.items():
      assert other_metrics[name] == pytest.approx(entry, abs=1e-6), name
