"""Tests of tables of runs."""

import io
import json
import shutil

from etils import epath
import numpy as np
import pandas as pd

from genre_flax.evaluation import comparison
from genre_flax.inference import predictor as predictor_lib
from genre_flax.inference import scored_split
from genre_flax.reports import run_tables
from genre_flax.reports import split_report
from genre_flax.runtime import lock
from genre_flax.runtime import metric_writer
from genre_flax.training import run_history


def make_table(name='cnn_%'):
  rows = {
    'probe': {
      'runs': 3,
      'posters': 12,
      'mean_average_precision': 0.3341,
      'mean_average_precision_std': 0.0042,
      'config.model.name': "'vit'",
    },
    name: {
      'runs': 1,
      'posters': 12,
      'mean_average_precision': 0.25,
      'mean_average_precision_difference': -0.0841,
      'mean_average_precision_low': -0.1,
      'mean_average_precision_high': 0.01,
      'config.model.name': "'tiny'",
    },
    comparison.BASELINE: {'mean_average_precision': 0.085},
  }
  table = pd.DataFrame.from_dict(rows, orient='index').rename_axis('group')
  return table.astype({'runs': 'Int64', 'posters': 'Int64'})


def test_text_and_latex():
  shown = run_tables.format_comparison(make_table(), 'text')
  lines = [line.split() for line in shown.splitlines()]
  assert ['probe', '3', '0.334', '±', '0.004'] in lines
  assert ['cnn_%', '1', '0.250'] in lines
  assert ['constant', 'baseline', '0.085'] in lines
  assert ['cnn_%', '-0.084', '[-0.100,', '+0.010]'] in lines
  assert ['config.model.name', "'vit'", "'tiny'"] in lines
  assert 'on 12 posters' in shown
  latex = run_tables.format_comparison(make_table(), 'latex')
  assert r'probe & 3 & 0.334 ± 0.004 \\' in latex
  assert r'cnn\_\% & -0.084 [-0.100, +0.010] \\' in latex
  assert all(
    line.startswith(('%', '\\', ' &')) or not line or line.endswith('\\\\')
    for line in latex.splitlines()
  )
  alone = make_table().drop('cnn_%').dropna(axis=1, how='all')
  assert 'Differences' not in run_tables.format_comparison(alone, 'text')


def test_csv_and_json():
  table = make_table('=cmd()')
  csv = run_tables.format_comparison(table, 'csv')
  read = pd.read_csv(io.StringIO(csv))
  assert list(read['group']) == ['probe', "'=cmd()", 'constant baseline']
  assert read['mean_average_precision_low'][1] == -0.1
  probe, other, _ = json.loads(run_tables.format_comparison(table, 'json'))
  assert (probe['runs'], probe['mean_average_precision_low']) == (3, None)
  assert other['group'] == '=cmd()'


def test_runs_are_listed_and_compared(trained_workdir, dataset, tmp_path):
  folder = epath.Path(tmp_path)
  for name in ('a/finished', 'a/interrupted', 'diverged', 'running'):
    shutil.copytree(trained_workdir, folder / name)
    if name != 'a/finished':
      shutil.rmtree(folder / name / 'checkpoints')
      metric_writer.write(folder / name, [])
  line = {'step': 8, 'split': 'train', 'loss': None}
  metric_writer.write(folder / 'diverged', [line])
  finished = folder / 'a' / 'finished'
  predictor = predictor_lib.restore(finished)
  scored = scored_split.score_split(predictor, dataset, 'test', batch_size=8)
  report = split_report.write(scored, finished, bootstrap_samples=0)
  values = {name: each['value'] for name, each in report['metrics'].items()}

  with lock.hold(folder / 'running' / '.lock', ''):
    table = run_tables.list_runs(folder)
  states = 'finished', 'interrupted', 'diverged', 'running'
  assert tuple(table['state']) == states
  assert list(table.index) == ['a/finished', 'a/interrupted', *states[2:]]
  name = 'mean_average_precision'
  validation = {
    line['step']: line[name]
    for line in metric_writer.read(finished)
    if line['split'] == 'validation'
  }
  row = table.iloc[0]
  assert (row['step'], row['metric']) == (30, name)
  assert row['validation'] == validation[predictor.step]
  assert row['test'] == values[name]
  assert np.isnan(table.loc['diverged', 'validation'])
  (start,) = run_history.read(finished)
  assert (row['started'], row['command']) == (start['time'], start['command'])

  compared = comparison.compare(
    {'run': [finished]}, names=list(values), num_samples=0
  )
  assert compared.loc['run', list(values)].to_dict() == values
  for name, entry in report['metrics'].items():
    baseline = compared.loc[comparison.BASELINE, name]
    assert baseline == entry['constant_baseline']
