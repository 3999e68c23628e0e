"""Slurm's commands, which play scenes of the queue."""

import io
import json
import os
import subprocess
import sys

import pytest

from genre_flax.runtime import errors
from launch.jobs import job as job_lib
from launch.jobs import wheel as wheel_lib
from launch.jobs.backends import slurm
from tests.support import launch_fakes

OPTIONS = {
  'nodes': 2,
  'gpus_per_node': 4,
  'partition': 'gpu',
  'time_limit': '12:00:00',
  'sbatch_arg': ['--account=films'],
}
HARD = '--config.note=it\'s "$HOME"'
ARGS = ('--config=configs/tpu_pod.py', '--workdir=/nfs/run', HARD)

PROGRAMS = {
  'sbatch': """
if read('refusal'):
  fail(read('refusal'))
write('submitted', read('submitted', 0) + 1)
(root / 'script').write_text(pathlib.Path(words[-1]).read_text())
print(100 + read('submitted'))
""",
  'squeue': """
if read('squeue_fails'):
  fail('slurm_load_jobs error: Unable to contact slurm controller')
for row in read('others', []):
  print(row)
number = read('submitted', 0)
if number:
  scenes = read('scenes')[number - 1]
  if scenes:
    state, *left = scenes
    all_scenes = read('scenes')
    all_scenes[number - 1] = left
    write('scenes', all_scenes)
    comment = next(l for l in (root / 'script').read_text().splitlines()
      if '--comment=' in l).partition('--comment=')[2]
    print(f'{100 + number}|posters|{state}|Resources|{comment}')
    folder = pathlib.Path(read('folder'))
    with open(folder / f'{100 + number}_0.log', 'a') as f:
      f.write(f'{state} {number}\\n')
""",
  'sacct': """
number = int(flags['jobs']) - 100
answers = read('ends')
answer = answers[number - 1].pop(0)
write('ends', answers)
print(answer)
""",
  'scancel': '',
  'srun': """
write('srun', [args, os.getcwd()])
""",
}


@pytest.fixture
def fakes(tmp_path, monkeypatch):
  fakes = launch_fakes.Fakes(tmp_path / 'cluster')
  for name, body in PROGRAMS.items():
    fakes.add(name, body)
  fakes.set('folder', str(tmp_path / 'state' / 'posters'))
  monkeypatch.setenv('PATH', f'{fakes.bin}:{os.environ["PATH"]}')
  monkeypatch.setattr(
    wheel_lib, 'build', lambda f: launch_fakes.make_wheel(f, main='')
  )
  return fakes


def make(tmp_path, *, args=ARGS, binary='train', **options):
  job = job_lib.make('posters', binary, args=args)
  state_dir = tmp_path / 'state'
  return slurm.Slurm(job, {**OPTIONS, **options, 'state_dir': state_dir})


def run(fakes, tmp_path, *, scenes, ends):
  fakes.set('scenes', scenes)
  fakes.set('ends', ends)
  output = io.StringIO()
  status = launch_fakes.supervise(make(tmp_path), output)
  return status, output.getvalue()


def test_from_the_queue_to_the_end(fakes, tmp_path):
  status, output = run(
    fakes,
    tmp_path,
    scenes=[['PENDING', 'RUNNING', 'COMPLETING']],
    # Accounting is behind the queue at first.
    ends=[['RUNNING|0:0', 'COMPLETED|0:0']],
  )
  assert status == 0, output
  assert 'PENDING: Resources' in output
  assert output.count('RUNNING 1\n') == 1
  assert not fakes.calls('scancel')


def test_the_script_starts_the_binary_on_all_gpus(fakes, tmp_path):
  backend = make(tmp_path)
  backend.create()
  text = (fakes.root / 'script').read_text()
  settings = {
    line.removeprefix('#SBATCH ')
    for line in text.splitlines()
    if line.startswith('#SBATCH ')
  }
  assert {
    '--job-name=posters',
    '--nodes=2',
    '--ntasks-per-node=4',
    '--gpus-per-node=4',
    '--requeue',
    '--partition=gpu',
    '--time=12:00:00',
    '--account=films',
  } <= settings
  subprocess.run(['bash', str(fakes.root / 'script')], check=True)
  args, folder = fakes.get('srun')
  start = args.index(sys.executable)
  assert args[start:] == [
    *(sys.executable, '-m', 'genre_flax.main', '--distributed'),
    *ARGS,
  ]
  assert all(arg.startswith('--') for arg in args[:start])
  # The code is that of the wheel, and not of the checkout.
  assert os.path.exists(os.path.join(folder, 'genre_flax', 'main.py'))


def test_one_task_takes_part_in_nothing(tmp_path):
  backend = make(tmp_path, nodes=1, gpus_per_node=0)
  script = backend.script(tmp_path)
  assert '--ntasks-per-node=1' in script
  assert '--gpus-per-node' not in script
  assert '--distributed' not in script


@pytest.mark.parametrize(
  'end', ['PREEMPTED|0:15', 'NODE_FAIL|1:0', 'TIMEOUT|0:0', 'FAILED|143:0']
)
def test_what_slurm_takes_away_is_submitted_again(fakes, tmp_path, end):
  status, output = run(
    fakes,
    tmp_path,
    scenes=[['RUNNING'], ['PENDING', 'RUNNING']],
    ends=[[end], ['COMPLETED|0:0']],
  )
  assert status == 0, output
  assert 'was preempted' in output
  assert 'RUNNING 2\n' in output
  assert fakes.get('submitted') == 2


@pytest.mark.parametrize(
  ('end', 'expected'),
  [
    ('FAILED|2:0', 2),
    ('FAILED|1:0', 1),
    ('FAILED|0:9', 137),
    ('OUT_OF_MEMORY|0:125', 253),
    ('CANCELLED by 1000|0:0', 1),
  ],
)
def test_ends_of_its_own(fakes, tmp_path, end, expected):
  fakes.set('scenes', [['RUNNING']] * 2)
  fakes.set('ends', [[end]] * 2)
  output = io.StringIO()
  status = launch_fakes.supervise(make(tmp_path), output, max_crashes=1)
  assert status == expected, output.getvalue()
  assert fakes.get('submitted') == (1 if expected == 2 else 2)


def test_a_requeued_job_is_followed_under_its_number(fakes, tmp_path):
  status, output = run(
    fakes,
    tmp_path,
    scenes=[['RUNNING', 'REQUEUED', 'PENDING', 'RUNNING']],
    ends=[['COMPLETED|0:0']],
  )
  assert status == 0, output
  assert fakes.get('submitted') == 1
  assert output.count('launch: posters: it runs.') == 2


def test_a_job_in_the_queue_is_followed(fakes, tmp_path):
  fakes.set('scenes', [['RUNNING'] * 4])
  fakes.set('ends', [['COMPLETED|0:0']])
  make(tmp_path).create()
  output = io.StringIO()
  assert launch_fakes.supervise(make(tmp_path), output) == 0
  assert 'following it' in output.getvalue()
  assert fakes.get('submitted') == 1


def test_a_job_of_that_name_that_is_not_ours_is_refused(fakes, tmp_path):
  fakes.set('others', ['7|posters|RUNNING|None|(null)'])
  with pytest.raises(errors.InputError, match='scancel 7'):
    launch_fakes.supervise(make(tmp_path), io.StringIO())


def test_another_writer_of_the_workdir_is_found(fakes, tmp_path):
  backend = make(tmp_path)
  mark = f'genre-flax:x:{backend.job.folder_digest}'
  fakes.set('others', [f'7|other|PENDING|Priority|{mark}'])
  assert backend.other_writer() == 'other'
  top3 = make(tmp_path, binary='top3', args=('--workdir=/nfs/run',))
  assert top3.other_writer() is None


def test_a_controller_that_does_not_answer_starts_nothing(fakes, tmp_path):
  fakes.set('squeue_fails', True)
  with pytest.raises(errors.ResourceError, match='Unable to contact'):
    launch_fakes.supervise(make(tmp_path), io.StringIO())
  assert not fakes.calls('sbatch')


def test_a_refusal_is_told_in_sbatchs_own_words(fakes, tmp_path):
  fakes.set('refusal', 'Invalid account or account/partition combination')
  with pytest.raises(errors.ResourceError, match='Invalid account'):
    run(fakes, tmp_path, scenes=[], ends=[])


def test_stopping_asks_first_and_cancels_then(fakes, tmp_path):
  fakes.set('scenes', [['RUNNING'] * 2])
  backend = make(tmp_path)
  backend.create()
  backend.observe()
  backend.stop()
  backend.stop(kill=True)
  assert [call[1:] for call in fakes.calls('scancel')] == [
    ['--signal=TERM', '101'],
    ['101'],
  ]


def test_the_plan_holds_the_script_and_touches_nothing(fakes, tmp_path):
  backend = make(tmp_path)
  text = '\n'.join(map(str, backend.plan()))
  wheel = launch_fakes.make_wheel(tmp_path / 'w', main='')
  assert f'sha256 {wheel.sha256}' in text
  assert json.dumps(HARD) not in text
  assert not fakes.calls()
  assert not (tmp_path / 'state').exists()


@pytest.mark.parametrize(
  ('options', 'message'),
  [
    ({'args': (ARGS[0], '--workdir=run')}, 'begins with gs:// or /'),
    ({'binary': 'prepare', 'args': ('--data_dir=/nfs/d',)}, 'prepare runs as'),
  ],
)
def test_what_cannot_be_is_named(tmp_path, options, message):
  with pytest.raises(errors.InputError, match=message):
    make(tmp_path, **options)
