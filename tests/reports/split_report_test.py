"""Tests of the report of a split."""

import json
import shutil

from etils import epath
import pytest

from genre_flax.evaluation import metrics
from genre_flax.reports import split_report
from tests.support import helpers


@pytest.mark.parametrize('explain', [False, True])
def test_evaluate_writes_files_and_prints_a_summary(
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
  report = json.loads((tmp_path / 'metrics.json').read_text())
  assert report['split'] == 'test'
  assert report['step'] == trained_predictor.step
  assert report['num_examples'] == 12
  assert metrics.METRICS.keys() < report['metrics'].keys()
  assert (tmp_path / 'contact_sheet.png').exists()
  header, *rows = (tmp_path / 'predictions.csv').read_text().splitlines()
  assert len(rows) == 12
  assert header.endswith(',predicted_genres')
  printed = capsys.readouterr().out
  assert printed.startswith('Split test: 12 posters, checkpoint ')
  assert f'Metrics:       {tmp_path}/metrics.json' in printed
  maps = list(tmp_path.glob('maps/*.png'))
  assert len(maps) == (12 if explain else 0)


def test_a_finished_run_keeps_its_scores(
  trained_workdir, data_dir, tmp_path, capsys
):
  workdir = epath.Path(tmp_path / 'a run')
  shutil.copytree(trained_workdir, workdir)
  config = helpers.tiny_config(data_dir, num_train_steps=30, report=False)
  split_report.evaluate_best(config, workdir, again=False)
  assert f"--model='{workdir}' POSTER.jpg" in capsys.readouterr().out
  (workdir / 'predictions.csv').unlink()
  split_report.evaluate_best(config, workdir, again=False)
  assert 'scores of the finished run' in capsys.readouterr().out
  assert not (workdir / 'predictions.csv').exists()
  config.dataset.test_split = 'validation'
  split_report.evaluate_best(config, workdir, again=False)
  assert (workdir / 'predictions.csv').exists()
