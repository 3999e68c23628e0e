"""Tasks for SkyPilot, read by SkyPilot's own parser."""

import importlib.util
import json
import os
import subprocess
import sys

import pytest
import yaml

from launch import job as job_lib
from launch.engines import skypilot

OPTIONS = {'infra': None, 'runtime_version': None, 'spot': False}
# An interpreter with SkyPilot, which needs other versions than this project.
PYTHON = os.environ.get('SKYPILOT_PYTHON') or (
  sys.executable if importlib.util.find_spec('sky') else None
)
VARIANTS = {
  'slice': {'accelerator': 'v5litepod-16', 'options': {'spot': True}},
  'large slice': {'accelerator': 'v6e:16x16', 'options': {'infra': 'gcp'}},
  'v4': {
    'accelerator': 'v4-32',
    'options': {'infra': 'gcp/us-central2', 'runtime_version': 'v9'},
  },
  'gpus': {'accelerator': 'H100:8', 'num_nodes': 2},
  'other gpus': {
    'accelerator': 'A100-80GB:4',
    'options': {'infra': 'aws/us-east-1'},
    'mounts': ['/data=s3://bucket-of-posters/data'],
  },
  'cpus': {'accelerator': None, 'env': ['A=b c', 'D=$E']},
}
_PARSE = """
import json, sys, yaml
import sky
from sky.utils import schemas
found = {}
for name, text in json.load(sys.stdin).items():
  task = sky.Task.from_yaml_config(yaml.safe_load(text))
  [resources] = task.resources
  found[name] = {
    'num_nodes': task.num_nodes,
    'accelerators': resources.accelerators,
    'accelerator_args': resources.accelerator_args,
    'use_spot': resources.use_spot,
    'job_recovery': resources.job_recovery,
    'envs': task.envs,
  }
wrong = {'name': 'a', 'resourcse': {}}
try:
  sky.Task.from_yaml_config(wrong)
  found['wrong'] = 'accepted'
except ValueError as e:
  found['wrong'] = str(e)
print(json.dumps(found))
"""


def make(accelerator=None, *, options=(), **machines):
  job = job_lib.make(
    *('posters', 'train'),
    args=['--config=configs/tpu_pod.py', "--workdir=gs://b/r's"],
    accelerator=job_lib.parse_accelerators(accelerator),
    **machines,
  )
  return skypilot.make(job, {**OPTIONS, **dict(options)})


@pytest.fixture(scope='module')
def parsed():
  if PYTHON is None:
    pytest.skip('no SkyPilot: SKYPILOT_PYTHON names an interpreter with it')
  texts = {name: make(**values) for name, values in VARIANTS.items()}
  done = subprocess.run(
    [PYTHON, '-c', _PARSE],
    input=json.dumps(texts),
    capture_output=True,
    text=True,
    check=False,
  )
  assert done.returncode == 0, done.stderr
  return json.loads(done.stdout.splitlines()[-1])


def test_skypilot_accepts_every_variant(parsed):
  assert set(parsed) == {*VARIANTS, 'wrong'}
  assert 'resourcse' in parsed['wrong']


def test_slices_of_tpus(parsed):
  found = parsed['slice']
  assert found['accelerators'] == {'tpu-v5litepod-16': 1}
  assert found['accelerator_args'] == {
    'tpu_vm': True,
    'runtime_version': 'v2-alpha-tpuv5-lite',
  }
  assert found['use_spot']
  assert found['num_nodes'] == 1
  assert parsed['v4']['accelerator_args']['runtime_version'] == 'v9'
  assert parsed['large slice']['accelerators'] == {'tpu-v6e-256': 1}


def test_nodes_with_gpus(parsed):
  assert parsed['gpus']['accelerators'] == {'H100': 8}
  assert parsed['gpus']['num_nodes'] == 2
  assert parsed['other gpus']['accelerators'] == {'A100-80GB': 4}


def test_statuses_that_restart(parsed):
  for name in VARIANTS:
    recovery = parsed[name]['job_recovery']
    assert recovery['recover_on_exit_codes'] == [69, 75]
    assert recovery['max_restarts_on_errors'] == 0


def test_variables_are_kept(parsed):
  assert parsed['cpus']['envs'] == {
    'PYTHONUNBUFFERED': '1',
    'A': 'b c',
    'D': '$E',
  }


def run_section(text, tmp_path, *, program, timeout=60, **variables):
  """Runs the section `run` where python is a program of the test."""
  venv = tmp_path / 'genre_flax_venv' / 'bin'
  venv.mkdir(parents=True)
  (venv / 'activate').write_text(f'PATH={venv}:$PATH\n')
  (venv / 'python').write_text(f'#!/bin/bash\n{program}\n')
  (venv / 'python').chmod(0o755)
  return subprocess.run(
    ['bash', '-c', yaml.safe_load(text)['run']],
    env={
      **os.environ,
      'HOME': str(tmp_path),
      'PEER_SECONDS': '0',
      **variables,
    },
    capture_output=True,
    text=True,
    timeout=timeout,
    check=False,
  )


def test_nodes_join_the_first(tmp_path):
  program = 'env | grep ^JAX_; printf "%s\\n" "$@"'
  done = run_section(
    *(make('H100:8', num_nodes=2), tmp_path),
    program=program,
    SKYPILOT_NODE_IPS='10.0.0.1\n10.0.0.2',
    SKYPILOT_NUM_NODES='2',
    SKYPILOT_NODE_RANK='1',
  )
  assert done.returncode == 0, done.stderr
  assert 'JAX_COORDINATOR_ADDRESS=10.0.0.1:8476' in done.stdout
  assert 'JAX_NUM_PROCESSES=2' in done.stdout
  assert 'JAX_PROCESS_ID=1' in done.stdout
  assert "--workdir=gs://b/r's" in done.stdout.splitlines()
  assert '--distributed' not in done.stdout


@pytest.mark.parametrize(
  ('program', 'status'),
  [
    *[('exit 2', 2), ('exit 65', 65), ('exit 69', 69), ('exit 75', 75)],
    *[('exit 73', 75), ('exit 1', 1), ('exit 74', 74)],
    *[('kill -9 $$', 75), ('kill -ABRT $$', 75)],
  ],
)
def test_status_of_the_program(tmp_path, program, status):
  done = run_section(make('v5e:4x4'), tmp_path, program=program)
  assert done.returncode == status


def test_a_peer_of_a_permanent_failure_reports_nothing(tmp_path):
  # SkyPilot ends the other machines when one has failed.
  with pytest.raises(subprocess.TimeoutExpired):
    run_section(
      *(make('v5e:4x4'), tmp_path),
      program='kill -ABRT $$',
      timeout=3,
      PEER_SECONDS='6',
    )
