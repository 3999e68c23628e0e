"""A real Slurm with two nodes on this machine, for tests; needs root."""

import contextlib
import os
import pathlib
import re
import shutil
import socket
import subprocess
import time

# Daemons, from Debian's packages slurm-wlm and munge.
_TOOLS = ('munged', 'slurmctld', 'slurmd', 'sbatch', 'srun', 'scontrol')
# They need addresses: JAX connects to the first node by its name.
NODES = ('n1', 'n2')
# A requeued job waits until credentials of its first run have expired.
_CREDENTIAL_SECONDS = 10
_CONF = """\
ClusterName=test
SlurmctldHost={host}(127.0.0.1)
SlurmctldPort={port}
SlurmUser=root
AuthType=auth/munge
AuthInfo=socket={folder}/munge.socket,cred_expire={cred_expire}
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool-%n
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd-%n.pid
SlurmctldLogFile={folder}/slurmctld.log
SlurmdLogFile={folder}/slurmd-%n.log
MpiDefault=none
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU
JobAcctGatherType=jobacct_gather/none
AccountingStorageType=accounting_storage/none
SlurmdParameters=config_overrides
KillWait=30
SchedulerParameters=sched_interval=2,bf_interval=2
PartitionName=test Nodes=ALL Default=YES State=UP MaxTime=INFINITE
{nodes}
"""


def reason_to_skip():
  """Why there can be no cluster; None if there can be one."""
  if os.geteuid():
    return 'a Slurm cluster of this test needs root'
  missing = [tool for tool in _TOOLS if not find(tool)]
  if missing:
    return f'apt-get install slurm-wlm munge, which have {missing}'
  try:
    for name in NODES:
      socket.gethostbyname(name)
  except OSError:
    return f'the line 127.0.0.1 {" ".join(NODES)} is missing in /etc/hosts'
  return None


def find(tool):
  return shutil.which(tool, path=f'{os.environ["PATH"]}:/usr/sbin:/sbin')


def free_port():
  with socket.socket() as s:
    s.bind(('127.0.0.1', 0))
    return s.getsockname()[1]


class Cluster:
  """Commands for a running cluster."""

  def __init__(self, folder):
    self.folder = folder
    self.env = {'SLURM_CONF': str(folder / 'slurm.conf')}

  def call(self, *command, check=True, **options):
    done = subprocess.run(
      list(map(str, command)),
      env={**os.environ, **self.env},
      capture_output=True,
      text=True,
      check=False,
      timeout=120,
      **options,
    )
    assert not check or done.returncode == 0, done.stdout + done.stderr
    return done.stdout

  def job(self, job_id):
    """The properties of a job."""
    shown = self.call('scontrol', 'show', 'job', '--oneliner', job_id)
    return dict(re.findall(r'(\w+)=(\S*)', shown))

  def wait(self, job_id, *states, seconds=240):
    """Waits for a state of a job; returns its properties."""
    end = time.monotonic() + seconds
    while (job := self.job(job_id))['JobState'] not in states:
      assert time.monotonic() < end, job
      time.sleep(0.5)
    return job

  def is_idle(self):
    states = self.call('sinfo', '--noheader', '--format=%T').split()
    return states == ['idle']


@contextlib.contextmanager
def start(folder: pathlib.Path):
  """Starts the daemons below a folder, and stops them at the end."""
  host = socket.gethostname()
  ports = free_port(), free_port()
  nodes = '\n'.join(
    f'NodeName={name} NodeHostname={host} NodeAddr=127.0.0.1 Port={port} CPUs=2'
    for name, port in zip(NODES, ports, strict=True)
  )
  (folder / 'state').mkdir(parents=True)
  for name in NODES:
    (folder / f'spool-{name}').mkdir()
  conf = _CONF.format(
    folder=folder,
    host=host,
    port=free_port(),
    nodes=nodes,
    cred_expire=_CREDENTIAL_SECONDS,
  )
  (folder / 'slurm.conf').write_text(conf)
  key = folder / 'munge.key'
  key.write_bytes(os.urandom(128))
  key.chmod(0o400)
  cluster = Cluster(folder)
  daemons = [
    [
      *(find('munged'), '--foreground', '--force', f'--key-file={key}'),
      *(f'--socket={folder}/munge.socket', f'--pid-file={folder}/munged.pid'),
      *(f'--log-file={folder}/munged.log', f'--seed-file={folder}/seed'),
    ],
    [find('slurmctld'), '-D', '-c', '-f', folder / 'slurm.conf'],
    *(
      [find('slurmd'), '-D', '-N', name, '-f', folder / 'slurm.conf']
      for name in NODES
    ),
  ]
  processes = []
  try:
    for number, command in enumerate(daemons):
      with (folder / f'daemon-{number}.log').open('wb') as log:
        processes.append(
          subprocess.Popen(
            list(map(str, command)),
            env={**os.environ, **cluster.env},
            stdout=log,
            stderr=subprocess.STDOUT,
          )
        )
      time.sleep(1.0)
    _wait_until_idle(cluster)
    yield cluster
  finally:
    for process in reversed(processes):
      process.terminate()
      try:
        process.wait(20)
      except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def _wait_until_idle(cluster):
  end = time.monotonic() + 60
  while True:
    try:
      if cluster.is_idle():
        return
    except AssertionError:
      if time.monotonic() > end:
        raise
    assert time.monotonic() < end, cluster.call('sinfo', check=False)
    time.sleep(0.5)
