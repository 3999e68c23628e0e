"""Tests of two processes with one device each, over gloo."""

import concurrent.futures
import json
import re

import numpy as np
import pytest

from genre_flax.inference import predictor as predictor_lib
from tests.support import programs

pytestmark = pytest.mark.slow

CONFIG = (
  '--config=configs/quickstart.py',
  '--config.dataset.synthetic_posters=0',
  '--config.image_height=32',
  '--config.image_width=24',
  '--config.model.tiny.features=(8, 16)',
  '--config.model.tiny.dropout_rate=0.0',
  '--config.num_train_steps=8',
  '--config.eval_every_epochs=1',
  '--config.bootstrap_samples=20',
  '--config.batch_size=16',
)
SECONDS = 180


def run_both(module, *arguments):
  """Runs a program in two processes; returns their outputs."""
  address = programs.free_address()
  processes = [
    programs.start(
      module,
      *arguments,
      JAX_COORDINATOR_ADDRESS=address,
      JAX_NUM_PROCESSES=2,
      JAX_PROCESS_ID=i,
    )
    for i in range(2)
  ]
  try:
    # Both pipes are read concurrently: a full one would block its process.
    with concurrent.futures.ThreadPoolExecutor(2) as pool:
      outputs = list(
        pool.map(lambda p: p.communicate(timeout=SECONDS)[0], processes)
      )
  finally:
    for process in processes:
      process.kill()  # Distributed processes ignore SIGTERM.
      process.wait()
  for process, output in zip(processes, outputs, strict=True):
    assert process.returncode == 0, output
  return outputs


@pytest.fixture(scope='module')
def two(data_dir, tmp_path_factory):
  """The workdir of a run of two processes, and their outputs."""
  workdir = tmp_path_factory.mktemp('two')
  outputs = run_both(
    'main',
    *CONFIG,
    f'--workdir={workdir}',
    f'--config.dataset.data_dir={data_dir}',
  )
  return workdir, outputs


@pytest.fixture(scope='module')
def one(data_dir, tmp_path_factory):
  """The same run by one process."""
  workdir = tmp_path_factory.mktemp('one')
  result = programs.run(
    'main',
    *CONFIG,
    '--config.report=False',
    f'--workdir={workdir}',
    f'--config.dataset.data_dir={data_dir}',
  )
  assert result.returncode == 0, result.stderr
  return workdir


def test_main_process_writes_the_reports(two):
  outputs = two[1]
  assert '2 x cpu on 2 host(s)' in outputs[0]
  assert '= 2 host(s) x 1 device(s) x 8' in outputs[0]
  assert 'mean_average_precision' in outputs[0]
  assert 'validation: loss' not in outputs[1]
  assert 'mean_average_precision' not in outputs[1]
  assert 'Report: ' in outputs[0]
  assert 'Report: ' not in outputs[1]


def test_results_equal_those_of_one_process(two, one):
  # Sums have another order, which Adam magnifies where gradients are near 0.
  restored = [
    predictor_lib.restore(workdir, step='latest') for workdir in (two[0], one)
  ]
  assert restored[0].step == restored[1].step == 8
  for name in ('ConvMaxPool_0', 'head'):
    kernels = [
      np.asarray(r.variables['params'][name]['kernel']) for r in restored
    ]
    np.testing.assert_allclose(*kernels, atol=2e-3)
  reports = [
    json.loads((workdir / 'metrics.json').read_text())
    for workdir in (two[0], one)
  ]
  assert reports[0]['num_examples'] == reports[1]['num_examples'] == 12
  values = [each['metrics']['cross_entropy']['value'] for each in reports]
  assert values[0] == pytest.approx(values[1], abs=5e-3)


def test_both_processes_resume_from_their_checkpoint(two, data_dir):
  outputs = run_both(
    'main',
    *CONFIG,
    '--config.report=False',
    f'--workdir={two[0]}',
    f'--config.dataset.data_dir={data_dir}',
  )
  for output in outputs:
    assert re.search('Resuming after step 8', output)


def test_top3_metrics_equal_those_of_one_process(two, one):
  workdir = two[0]
  outputs = run_both(
    'top3',
    f'--workdir={workdir}',
    '--split=validation',
    '--step=latest',
    '--bootstrap_samples=0',
  )
  assert 'mean_average_precision' in outputs[0]
  alone = programs.run(
    'top3',
    f'--workdir={workdir}',
    '--split=validation',
    '--step=latest',
    '--bootstrap_samples=0',
    f'--output={workdir}/alone',
  )
  assert alone.returncode == 0, alone.stderr
  together = json.loads(
    (workdir / 'eval' / 'validation_8' / 'metrics.json').read_text()
  )
  single = json.loads((workdir / 'alone' / 'metrics.json').read_text())
  for name, entry in single['metrics'].items():
    assert together['metrics'][name]['value'] == pytest.approx(
      entry['value'], abs=1e-6
    )
