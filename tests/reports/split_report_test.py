"""Tests of the report of a split."""

import json

from etils import epath
import pytest

from genre_flax.evaluation import metrics
from genre_flax.inference import scored_split
from genre_flax.reports import split_report


@pytest.fixture(scope='module')
def scored(trained_predictor, dataset):
  return scored_split.score_split(
    trained_predictor, dataset, 'test', batch_size=5
  )


def test_files(scored, tmp_path):
  output = epath.Path(tmp_path) / 'new'
  report = split_report.write(scored, output, bootstrap_samples=20)
  assert json.loads((output / 'metrics.json').read_text()) == report
  assert report['split'] == 'test'
  assert report['step'] == scored.predictor.step
  assert report['num_examples'] == len(scored)
  assert metrics.METRICS.keys() < report['metrics'].keys()
  assert (output / 'contact_sheet.png').exists()
  rows = (output / 'predictions.csv').read_text().splitlines()
  assert len(rows) == 1 + len(scored)
  assert rows[0].endswith(',predicted_genres')


@pytest.mark.parametrize('explain', [False, True])
def test_evaluate_prints_a_summary(
  trained_predictor, dataset, tmp_path, capsys, explain
):
  split_report.evaluate(
    trained_predictor,
    'test',
    data_dir=dataset.data_dir,
    output=epath.Path(tmp_path),
    batch_size=8,
    bootstrap_samples=0,
    explain=explain,
    explain_by=None,
  )
  printed = capsys.readouterr().out
  assert printed.startswith('Split test: 12 posters, checkpoint ')
  assert f'Metrics:       {tmp_path}/metrics.json' in printed
  maps = list(tmp_path.glob('maps/*.png'))
  assert len(maps) == (12 if explain else 0)
