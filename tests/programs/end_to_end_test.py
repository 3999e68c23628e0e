"""Both binaries, whole, on eight CPU devices, as they are typed."""

import json
import re
import signal

import pytest

from genre_flax.datasets.posters import synthetic
from genre_flax.evaluation import metrics
from genre_flax.ops.cpu import onednn
from tests.support import binaries

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
  """The workdir of a short quickstart, and what the binary printed."""
  workdir = tmp_path_factory.mktemp('quickstart')
  result = binaries.run(
    'main',
    *OVERRIDES,
    f'--workdir={workdir}',
    num_devices=8,
    # As users do: JAX's cache, which other tests have, turns oneDNN off.
    JAX_COMPILATION_CACHE_DIR='',
  )
  assert result.returncode == 0, result.stderr
  return workdir, result


def test_training_says_what_the_run_is(trained):
  log = trained[1].stderr
  assert '8 x cpu on 1 host(s)' in log
  assert ('convolutions oneDNN' in log) == onednn._is_in_jaxlib()
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


def test_training_ends_with_scores_top_threes_and_the_next_command(trained):
  workdir, result = trained
  for name in metrics.METRICS:
    assert re.search(rf'^{name} +\d\.\d{{4}} +\d.* to \d', result.stdout, re.M)
  assert (
    len(re.findall(r'^  synthetic\d+  .* correct\)$', result.stdout, re.M)) == 5
  )
  assert f'Contact sheet: {workdir}/contact_sheet.png' in result.stdout
  assert f'python -m genre_flax.top3 --workdir={workdir}' in result.stdout
  assert (workdir / 'contact_sheet.png').read_bytes().startswith(b'\x89PNG')
  assert list((workdir / 'tensorboard').iterdir())
  assert f'Report:        {workdir}/report.html' in result.stdout
  page = (workdir / 'report.html').read_text()
  assert 'python -m genre_flax.main --config=configs/quickstart.py' in page
  assert len(page) < 15e6


def test_it_really_learns(trained):
  report = json.loads((trained[0] / 'metrics.json').read_text())
  score = report['metrics']['mean_average_precision']
  assert score['value'] > 2 * score['constant_baseline']
  assert score['low'] > 1.5 * score['constant_baseline']


def test_top3_evaluates_a_split_on_eight_devices_and_on_one_alike(trained):
  workdir, _ = trained
  reports = []
  for num_devices in (8, 1):
    output = workdir / f'out{num_devices}'
    result = binaries.run(
      'top3',
      f'--workdir={workdir}',
      '--split=test',
      f'--output={output}',
      '--bootstrap_samples=50',
      num_devices=num_devices,
    )
    assert result.returncode == 0, result.stderr
    assert 'mean_average_precision' in result.stdout
    assert re.search(r'^Drama +\d', result.stdout, re.M)
    reports.append(json.loads((output / 'metrics.json').read_text()))
  final = json.loads((workdir / 'metrics.json').read_text())
  for report in reports:
    for name, entry in final['metrics'].items():
      assert report['metrics'][name]['value'] == pytest.approx(
        entry['value'], abs=1e-6
      )


@pytest.mark.parametrize(
  ('arguments', 'words'),
  [
    (['--split=test'], 'an ensemble needs --output'),
    (['--split=test', '--step=all'], 'not support --watch and --step=all'),
    (
      ['--output=x', '--explain', 'a.jpg'],
      'ensemble does not support --explain',
    ),
  ],
)
def test_top3_refuses_of_several_networks_what_needs_one(
  trained, arguments, words
):
  workdirs = [f'--workdir={trained[0]}'] * 2
  result = binaries.run('top3', *workdirs, *arguments)
  assert result.returncode == 2
  assert words in result.stderr


def test_top3_averages_several_networks(trained, tmp_path):
  workdir, _ = trained
  result = binaries.run(
    'top3',
    f'--workdir={workdir}',
    f'--workdir={workdir}',
    '--split=test',
    f'--output={tmp_path}',
    '--bootstrap_samples=0',
  )
  assert result.returncode == 0, result.stderr
  assert '(2 networks, best of each)' in result.stdout
  # Twice the same one is that one.
  alone = json.loads((workdir / 'metrics.json').read_text())['metrics']
  together = json.loads((tmp_path / 'metrics.json').read_text())['metrics']
  for name in ('mean_average_precision', 'macro_f1_fitted', 'exact_match'):
    value = alone[name]['value']
    assert together[name]['value'] == pytest.approx(value, abs=1e-6)


def test_report_is_made_of_a_workdir_and_says_where_it_is(trained, tmp_path):
  workdir, _ = trained
  result = binaries.run(
    'report',
    f'--workdir={workdir}',
    f'--workdir={workdir}',
    '--split=validation',
    f'--output={tmp_path / "new"}',
    '--bootstrap_samples=0',
  )
  assert result.returncode == 0, result.stderr
  path = tmp_path / 'new' / 'report.html'
  assert result.stdout == f'Report: {path}\n'
  assert 'the split validation' in path.read_text()


@pytest.mark.parametrize(
  ('arguments', 'words'),
  [
    (['--workdir=nowhere'], 'nowhere has no checkpoint'),
    (['--workdir={}', '--split=tset'], "no split 'tset'"),
    (['--workdir={}', 'poster.jpg'], 'Unexpected arguments'),
    ([], '--workdir'),
  ],
)
def test_report_refuses_what_it_cannot_use(trained, arguments, words):
  result = binaries.run('report', *(a.format(trained[0]) for a in arguments))
  assert result.returncode == 2
  assert words in result.stderr
  assert 'Traceback' not in result.stderr


def test_top3_explains_what_it_names(trained, tmp_path):
  _, folder = synthetic.write_posters(tmp_path, num_posters=2, seed=9)
  arguments = (f'--workdir={trained[0]}', '--explain', folder)
  result = binaries.run('top3', *arguments)
  assert result.returncode == 2
  assert 'it needs --output' in result.stderr
  output = tmp_path / 'out'
  result = binaries.run('top3', *arguments, f'--output={output}')
  assert result.returncode == 0, result.stderr
  assert len(list((output / 'maps').iterdir())) == 2


def test_top3_names_genres_and_passes_over_what_it_cannot_read(
  trained, tmp_path
):
  _, folder = synthetic.write_posters(tmp_path, num_posters=3, seed=9)
  (folder / 'broken.jpg').write_bytes(b'')
  result = binaries.run(
    'top3',
    f'--workdir={trained[0]}',
    f'--output={tmp_path / "out"}',
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
  assert (tmp_path / 'out' / 'predictions.csv').exists()
  assert (tmp_path / 'out' / 'contact_sheet.png').exists()


def test_watching_evaluates_what_a_training_saves_and_ends_with_it(tmp_path):
  workdir = tmp_path / 'run'
  watcher = binaries.start(
    'top3',
    f'--workdir={workdir}',
    '--split=test',
    '--watch',
    '--bootstrap_samples=10',
  )
  training = binaries.run(
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
  again = binaries.run(
    'top3',
    f'--workdir={workdir}',
    '--split=test',
    '--step=all',
    '--bootstrap_samples=10',
  )
  assert again.returncode == 0, again.stderr
  for step in steps:
    assert f'step {step}  test: ' in again.stderr


@pytest.mark.parametrize(
  'arguments, message',
  [
    ([], 'Expected either image files and folders'),
    (['--split=test', 'a.jpg'], 'Expected either image files and folders'),
    (['--split=dev'], "no split 'dev'; it has"),
    (['--split=test', '--step=7'], 'has the checkpoints'),
    (['--watch', 'a.jpg'], '--watch needs --split'),
    (['--step=all', 'a.jpg'], '--step=all needs --split'),
    (['--watch', '--split=test', '--output=x'], 'remove --output=x'),
    (['--watch', '--split=test', '--step=7'], 'remove --step=7'),
    (['--watch', '--split=test', '--distributed'], 'support --distributed'),
  ],
)
def test_top3_refuses_what_makes_no_sense(trained, arguments, message):
  result = binaries.run('top3', f'--workdir={trained[0]}', *arguments)
  assert result.returncode == 2
  assert message in result.stderr
  assert 'Traceback' not in result.stderr


@pytest.mark.parametrize(
  'arguments, message',
  [
    (['--config.batch_size=30'], r'does not divide into 8 device.*= 32'),
    (['--config.image_sise=3'], r"no key 'image_sise'.*image_size"),
    (['--config.batch_size=many'], r'config.batch_size=many: invalid literal'),
    (['--config.ema_decay=2'], r'config.ema_decay=2.0: must be'),
    (['--config=configs/nothing.py'], r'configs/nothing.py'),
    (['extra'], r"Unexpected arguments: \['extra'\]"),
  ],
)
def test_main_refuses_a_wrong_config_in_one_message(
  tmp_path, arguments, message
):
  result = binaries.run(
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


def test_a_dry_run_tells_and_trains_nothing(tmp_path):
  result = binaries.run(
    'main',
    *OVERRIDES,
    *FEW_POSTERS,
    f'--workdir={tmp_path}',
    '--dry_run',
    num_devices=8,
  )
  assert result.returncode == 0, result.stderr
  assert 'The run:' in result.stderr
  assert 'nothing was trained' in result.stdout
  assert not (tmp_path / 'checkpoints').exists()


def test_a_signal_saves_and_the_same_command_goes_on(tmp_path):
  arguments = [
    'main',
    *OVERRIDES,
    *FEW_POSTERS,
    NO_REPORT,
    f'--workdir={tmp_path}',
    '--config.log_every=1',
    '--config.num_epochs=6',
  ]
  stopped = 0
  for number, status in ((signal.SIGINT, 130), (signal.SIGTERM, 143)):
    with binaries.start(*arguments) as process:
      read = ''
      for line in process.stdout:
        read += line
        if f'step {stopped + 3}/' in line:
          process.send_signal(number)
          break
      rest = process.stdout.read()
      assert process.wait(timeout=120) == status, rest
    assert (f'Resuming after step {stopped}' in read) == (stopped > 0)
    assert 'stopping after this step' in rest
    stopped = int(re.search(r'Stopped after step (\d+) of', rest)[1])
    assert (tmp_path / 'checkpoints' / str(stopped)).is_dir()
  result = binaries.run(*arguments, '--config.dataset.test_split=')
  assert result.returncode == 0, result.stderr
  assert f'Resuming after step {stopped}' in result.stderr
