"""Training, evaluation, predictions and reports by the programs."""

import io
import json
import re
import signal

import pandas as pd
import pytest

from genre_flax.datasets.posters import synthetic
from genre_flax.evaluation import metrics
from genre_flax.ops.cpu import onednn
from tests.support import programs

pytestmark = pytest.mark.slow

OVERRIDES = (
  '--config=configs/quickstart.py',
  '--config.dataset.synthetic_posters=400',
  '--config.image_height=48',
  '--config.image_width=32',
  '--config.num_epochs=12',
  '--config.eval_every_epochs=3',
  '--config.bootstrap_samples=50',
)
FEW_POSTERS = ('--config.dataset.synthetic_posters=117',)
NO_REPORT = '--config.report=False'


@pytest.fixture(scope='module')
def trained(tmp_path_factory):
  """The workdir of a short quickstart on 8 devices, and the process."""
  workdir = tmp_path_factory.mktemp('quickstart')
  result = programs.run(
    'main',
    *OVERRIDES,
    f'--workdir={workdir}',
    num_devices=8,
    # JAX's cache, which other tests use, would turn oneDNN off.
    JAX_COMPILATION_CACHE_DIR='',
  )
  assert result.returncode == 0, result.stderr
  return workdir, result


def read_metrics(folder):
  report = json.loads((folder / 'metrics.json').read_text())
  return {name: entry['value'] for name, entry in report['metrics'].items()}


def test_training_logs_the_run(trained):
  log = trained[1].stderr
  assert '8 x cpu on 1 host(s)' in log
  assert ('convolutions oneDNN' in log) == (not onednn.check_failure('float32'))
  assert '= 1 host(s) x 8 device(s) x 4' in log
  assert 'parameters' in log
  assert re.search(r'genres +12: Drama \d', log)
  assert re.search(
    r'step 20/\d+ \(epoch .*\)  loss [\d.]+  lr \S+  [\d.]+ images/s'
    r'  input wait [\d.]+%  ETA \d',
    log,
  )
  assert 'validation: loss' in log
  assert 'Warning' not in log


def test_training_ends_with_metrics_predictions_and_the_next_command(trained):
  workdir, result = trained
  for name in metrics.METRICS:
    assert re.search(rf'^{name} +\d\.\d{{4}} +\d.* to \d', result.stdout, re.M)
  correct = re.findall(r'^  synthetic\d+  .* correct\)$', result.stdout, re.M)
  assert len(correct) == 5
  assert f'Contact sheet: {workdir}/contact_sheet.png' in result.stdout
  assert 'python -m genre_flax.top3 POSTER.jpg' in result.stdout
  assert (workdir / 'contact_sheet.png').read_bytes().startswith(b'\x89PNG')
  assert list((workdir / 'tensorboard').iterdir())
  assert f'Report:        {workdir}/report.html' in result.stdout
  page = (workdir / 'report.html').read_text()
  assert 'python -m genre_flax.main --config=configs/quickstart.py' in page
  assert len(page) < 15e6


def test_training_beats_the_constant_baseline(trained):
  report = json.loads((trained[0] / 'metrics.json').read_text())
  score = report['metrics']['mean_average_precision']
  assert score['value'] > 2 * score['constant_baseline']
  assert score['low'] > 1.5 * score['constant_baseline']


def test_top3_evaluates_a_split(trained, tmp_path):
  workdir, _ = trained
  result = programs.run(
    'top3',
    f'--workdir={workdir}',
    '--split=test',
    f'--output={tmp_path}',
    '--bootstrap_samples=50',
  )
  assert result.returncode == 0, result.stderr
  assert 'mean_average_precision' in result.stdout
  assert re.search(r'^Drama +\d', result.stdout, re.M)
  # The training evaluated it on 8 devices.
  assert read_metrics(tmp_path) == pytest.approx(
    read_metrics(workdir), abs=1e-6
  )


def test_compare_prints_a_table(trained):
  workdir, _ = trained
  result = programs.run(
    'compare',
    f'a={workdir}*',
    str(workdir),
    '--format=csv',
    '--metrics=mean_average_precision',
    '--bootstrap_samples=20',
  )
  assert result.returncode == 0, result.stderr
  table = pd.read_csv(io.StringIO(result.stdout), index_col='group')
  assert list(table.index) == ['a', workdir.name, 'constant baseline']
  expected = read_metrics(workdir)['mean_average_precision']
  assert table['mean_average_precision']['a'] == pytest.approx(expected)
  assert table['mean_average_precision_difference'][workdir.name] == 0
  result = programs.run('compare', f'--list={workdir}', '--format=json')
  (run,) = json.loads(result.stdout)
  assert run['state'] == 'finished'
  assert run['test'] == pytest.approx(expected)


def test_top3_evaluates_an_ensemble(trained, tmp_path):
  workdir, _ = trained
  result = programs.run(
    'top3',
    *[f'--workdir={workdir}'] * 2,
    '--split=test',
    f'--output={tmp_path}',
    '--bootstrap_samples=0',
  )
  assert result.returncode == 0, result.stderr
  assert '(2 networks, best of each)' in result.stdout
  # Two equal members are equal to one.
  expected, actual = read_metrics(workdir), read_metrics(tmp_path)
  for name in ('mean_average_precision', 'macro_f1_fitted', 'exact_match'):
    assert actual[name] == pytest.approx(expected[name], abs=1e-6)


def test_top3_predicts_explains_and_skips_unreadable_files(trained, tmp_path):
  _, folder = synthetic.write_posters(tmp_path, num_posters=3, seed=9)
  (folder / 'broken.jpg').write_bytes(b'')
  output = tmp_path / 'out'
  result = programs.run(
    'top3',
    f'--workdir={trained[0]}',
    f'--output={output}',
    '--explain',
    folder,
    folder / 'nothing.png',
  )
  assert result.returncode == 1
  lines = result.stdout.splitlines()
  for i in range(3):
    genres = r'  [\w-]+ [01]\.\d\d' * 3
    assert re.fullmatch(rf'{folder}/synthetic0000{i}\.jpg{genres}', lines[i]), (
      lines
    )
  assert 'broken.jpg: empty image' in result.stderr
  assert 'nothing.png: missing image' in result.stderr
  assert '2 file(s) could not be read' in result.stderr
  assert (output / 'predictions.csv').exists()
  assert (output / 'contact_sheet.png').exists()
  assert len(list((output / 'maps').iterdir())) == 3


def test_report_of_two_workdirs(trained, tmp_path):
  result = programs.run(
    'report',
    *[f'--workdir={trained[0]}'] * 2,
    '--split=validation',
    f'--output={tmp_path / "new"}',
    '--bootstrap_samples=0',
  )
  assert result.returncode == 0, result.stderr
  path = tmp_path / 'new' / 'report.html'
  assert result.stdout == f'Report: {path}\n'
  assert 'the split validation' in path.read_text()


def test_watch_evaluates_checkpoints_until_the_training_ends(tmp_path):
  workdir = tmp_path / 'run'
  flags = (f'--workdir={workdir}', '--split=test', '--bootstrap_samples=10')
  watcher = programs.start('top3', *flags, '--watch')
  training = programs.run(
    'main',
    *OVERRIDES,
    *FEW_POSTERS,
    NO_REPORT,
    f'--workdir={workdir}',
    '--config.num_epochs=2',
    '--config.eval_every_epochs=1',
    '--config.keep_best=5',
  )
  assert training.returncode == 0, training.stderr
  output, _ = watcher.communicate(timeout=240)
  assert watcher.returncode == 0, output
  steps = [int(step) for step in re.findall(r'step (\d+)  test: ', output)]
  assert len(steps) == 2
  assert f'Metrics by step: {workdir}/eval/test/metrics.jsonl' in output
  again = programs.run('top3', *flags, '--step=all')
  assert again.returncode == 0, again.stderr
  for step in steps:
    assert f'step {step}  test: ' in again.stderr


REFUSALS = {
  'top3': [
    ([], 'Expected either image files and folders'),
    (['--split=test', 'a.jpg'], 'Expected either image files and folders'),
    (['--split=dev'], "no split 'dev'; expected one of"),
    (['--split=test', '--step=7'], 'has the checkpoints'),
    (['--explain', 'a.jpg'], 'it needs --output'),
    (['--watch', 'a.jpg'], '--watch needs --split'),
    (['--step=all', 'a.jpg'], '--step=all needs --split'),
    (['--watch', '--split=test', '--output=x'], 'remove --output=x'),
    (['--watch', '--split=test', '--step=7'], 'remove --step=7'),
    (['--watch', '--split=test', '--distributed'], 'support --distributed'),
    (['--workdir=x', '--split=test'], 'an ensemble needs --output'),
    (
      ['--workdir=x', '--split=test', '--step=all'],
      'not support --watch and --step=all',
    ),
    (
      ['--workdir=x', '--output=x', '--explain', 'a.jpg'],
      'ensemble does not support --explain',
    ),
  ],
  'report': [
    (['--workdir=nowhere'], 'nowhere has no checkpoint'),
    (['--split=tset'], "no split 'tset'"),
    (['poster.jpg'], 'Unexpected arguments'),
  ],
}


@pytest.mark.parametrize('program', REFUSALS)
def test_unusable_flags_are_refused(trained, program):
  workdir = f'--workdir={trained[0]}'
  cases = REFUSALS[program]
  results = programs.run_each(
    program, [[workdir, *arguments] for arguments, _ in cases]
  )
  for (status, stderr), (arguments, message) in zip(
    results, cases, strict=True
  ):
    assert status == 2, arguments
    assert message in stderr
    assert 'Traceback' not in stderr


@pytest.mark.parametrize(
  'arguments, message',
  [
    (['--config.batch_size=30'], r'is not a multiple of 8 device.*is 32'),
    (['--config.image_sise=3'], r'image_sise: .* config.image_size'),
    (['--config.batch_size=many'], r'config.batch_size=many: invalid literal'),
    (['--config=configs/nothing.py'], r'configs/nothing.py'),
    (['extra'], r"Unexpected arguments: \['extra'\]"),
  ],
)
def test_unusable_config_is_refused(tmp_path, arguments, message):
  result = programs.run(
    'main',
    *OVERRIDES,
    *FEW_POSTERS,
    f'--workdir={tmp_path}',
    '--dry_run',
    *arguments,
    num_devices=8,
  )
  assert result.returncode == 2
  assert re.search(message, result.stderr, re.S), result.stderr
  assert 'Traceback' not in result.stderr
  assert not (tmp_path / 'checkpoints').exists()


def test_dry_run_trains_nothing(tmp_path):
  result = programs.run(
    'main', *OVERRIDES, *FEW_POSTERS, f'--workdir={tmp_path}', '--dry_run'
  )
  assert result.returncode == 0, result.stderr
  assert 'The run:' in result.stderr
  assert 'nothing was trained' in result.stdout
  assert not (tmp_path / 'checkpoints').exists()


def test_interrupted_training_is_resumed_by_the_same_command(tmp_path):
  arguments = [
    'main',
    *OVERRIDES,
    *FEW_POSTERS,
    NO_REPORT,
    f'--workdir={tmp_path}',
    '--config.log_every=1',
    '--config.num_epochs=6',
  ]
  step = 0
  for number, status in ((signal.SIGINT, 130), (signal.SIGTERM, 143)):
    with programs.start(*arguments) as process:
      before = ''
      for line in process.stdout:
        before += line
        if f'step {step + 3}/' in line:
          process.send_signal(number)
          break
      after = process.stdout.read()
      assert process.wait(timeout=120) == status, after
    assert (f'Resuming after step {step}' in before) == (step > 0)
    step = int(re.search(r'Interrupted after step (\d+) of', after)[1])
    assert (tmp_path / 'checkpoints' / str(step)).is_dir()
  result = programs.run(*arguments, '--config.dataset.test_split=')
  assert result.returncode == 0, result.stderr
  assert f'Resuming after step {step}' in result.stderr
