"""One checkpoint, evaluated in all ways: the same rows and numbers."""

import csv
import json

import numpy as np
import pytest

from tests.faults import outcomes as outcomes_lib
from tests.support import binaries
from tests.training import multi_process_test

pytestmark = pytest.mark.slow


@pytest.fixture(scope='module')
def trained(data_dir, tmp_path_factory):
  workdir = tmp_path_factory.mktemp('exact')
  done = binaries.run(
    'main',
    *multi_process_test.CONFIG,
    f'--workdir={workdir}',
    f'--config.dataset.data_dir={data_dir}',
    '--config.dataset.test_split=',
  )
  assert done.returncode == 0, done.stderr
  return workdir


def evaluate(workdir, output, *, batch_size, devices=1, processes=1):
  arguments = (
    'top3',
    f'--workdir={workdir}',
    '--split=train',
    f'--output={output}',
    f'--batch_size={batch_size}',
    '--bootstrap_samples=20',
  )
  if processes == 2:
    multi_process_test.run_both(*arguments)
  else:
    done = binaries.run(*arguments, num_devices=devices)
    assert done.returncode == 0, done.stderr
  rows = list(csv.reader((output / 'predictions.csv').read_text().splitlines()))
  report = json.loads((output / 'metrics.json').read_text())
  names = [row[0] for row in rows[1:]]
  scores = np.array([row[1:] for row in rows[1:]], float)
  return names, scores, report


SHORT = ((7, 2, 1),)
LONG = [
  (batch_size, devices, processes)
  for batch_size in (1, 7, 64)
  for devices, processes in ((1, 1), (2, 1), (8, 1), (1, 2))
]


@pytest.mark.parametrize(
  'ways', [SHORT, pytest.param(LONG, marks=pytest.mark.drill)]
)
def test_in_all_ways(trained, tmp_path, ways):
  outcomes = outcomes_lib.Outcomes(
    'batches, devices and processes', group='exact evaluation'
  )
  expected = evaluate(trained, tmp_path / 'plain', batch_size=16)
  assert len(expected[0]) == 93
  for number, (batch_size, devices, processes) in enumerate(ways):
    names, scores, report = evaluate(
      trained,
      tmp_path / str(number),
      batch_size=batch_size,
      devices=devices,
      processes=processes,
    )
    assert names == expected[0]
    np.testing.assert_allclose(scores, expected[1], rtol=0, atol=1e-5)
    for name, entry in report['metrics'].items():
      for key, value in expected[2]['metrics'][name].items():
        assert entry[key] == pytest.approx(value, abs=1e-6), (name, key)
    outcomes['the same rows, scores and metrics'] += 1
  outcomes.done()
