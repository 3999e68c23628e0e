r"""Runs a binary on a pod slice, a cluster or this machine, until it is done.

python -m launch.run --backend=tpu_vm --name=posters --zone=us-west4-a \
  --slice_type=v5litepod-16 --spot -- \
  --config=configs/tpu_pod.py --workdir=gs://BUCKET/posters

Flags of the launcher come before a lone --, those of the binary after it. The
log of process 0 is shown; a job that was preempted, crashed or hung is started
again and goes on from its last checkpoint. The same command follows a job that
runs already. Ctrl-C lets it save and end, and gives the machines back; a second
Ctrl-C leaves it as it is. --dry_run prints the commands instead.

Exit statuses:
  0    the job has done all it should
  2    bad input, of the launcher or of the binary; trying again is no use
  69   no machines, or none that can be set up, or no tool to ask for them
  73   another launcher on this machine follows the job, or writes its folder
  75   preempted more often than --max_restarts
  124  hung more often than --max_restarts or --max_crashes
  130  stopped by Ctrl-C, saved; 143 by SIGTERM
  any other: the binary's own, of a crash on the last attempt
"""

import contextlib
import os
import pathlib
import sys

from absl import flags

from genre_flax.runtime import errors
from genre_flax.runtime import lock
from launch.jobs import job as job_lib
from launch.jobs import restarts
from launch.jobs import supervisor
from launch.jobs.backends import registry
from launch.runtime import command_line
from launch.runtime import stop_request

_BACKEND = flags.DEFINE_enum(
  'backend', 'local', list(registry.BACKENDS), 'Where the job runs.'
)
_NAME = flags.DEFINE_string(
  'name',
  None,
  'Name of the job, and of what is created for it: lower-case letters, digits'
  ' and dashes. The same name with the same flags is the same job.',
  required=True,
)
_BINARY = flags.DEFINE_enum(
  'binary', 'train', list(job_lib.MODULES), 'What to run.'
)
_ENV = flags.DEFINE_multi_string(
  'env', [], 'Variable of the binary, as NAME=VALUE; may be given again.'
)
_DRY_RUN = flags.DEFINE_bool(
  'dry_run', False, 'Print the commands that would be run, and run none.'
)
_KEEP = flags.DEFINE_bool(
  'keep', False, 'Keep the machines when the job is over.'
)
_MAX_RESTARTS = flags.DEFINE_integer(
  'max_restarts', 20, 'Restarts of any kind.', lower_bound=0
)
_MAX_CRASHES = flags.DEFINE_integer(
  'max_crashes',
  3,
  'Crashes and hangs that are restarted, of --max_restarts.',
  lower_bound=0,
)
_HANG_TIMEOUT_MINUTES = flags.DEFINE_float(
  'hang_timeout_minutes',
  30.0,
  'A job whose process 0 logs nothing for this long has hung.',
  lower_bound=0.1,
)
_GRACE_MINUTES = flags.DEFINE_float(
  'grace_minutes',
  5.0,
  'Time to save in, from the request to stop to the kill.',
  lower_bound=0.0,
)
_STATE_DIR = flags.DEFINE_string(
  'state_dir',
  '~/.local/state/genre_flax/launch',
  'Folder for logs and what else is kept of jobs; with slurm, one that all'
  ' nodes see.',
)
flags.DEFINE_integer(
  'num_processes', 1, 'local: processes of the job.', lower_bound=1
)
flags.DEFINE_string(
  'slice_type',
  None,
  'tpu_vm, gke: type of the slice, such as v5litepod-16, v6e-8, v4-32.',
)
flags.DEFINE_bool(
  'spot', False, 'tpu_vm, gke: machines that cost less and may be taken away.'
)
flags.DEFINE_string('zone', None, 'tpu_vm: zone, such as us-west4-a.')
flags.DEFINE_string(
  'project', None, "tpu_vm: Google Cloud project; default: gcloud's own."
)
flags.DEFINE_string(
  'runtime_version', None, "tpu_vm: image; default: that of the slice's type."
)
flags.DEFINE_string(
  'tpu_name',
  None,
  'tpu_vm: use this TPU VM, which is there, and neither create nor delete one.',
)
flags.DEFINE_string(
  'image', None, 'gke: container image, as launch/Dockerfile makes one.'
)
flags.DEFINE_string('namespace', 'default', 'gke: Kubernetes namespace.')
flags.DEFINE_string(
  'kube_context', None, "gke: kubectl's context; default: the current one."
)
flags.DEFINE_string(
  'service_account',
  None,
  'gke: Kubernetes service account that may use the bucket.',
)
flags.DEFINE_integer('nodes', 1, 'slurm: nodes of the job.', lower_bound=1)
flags.DEFINE_integer(
  'gpus_per_node',
  1,
  'slurm: GPUs, and processes, of each node; 0 for one process on CPU.',
  lower_bound=0,
)
flags.DEFINE_string(
  'partition', None, "slurm: partition; default: the cluster's."
)
flags.DEFINE_string('time_limit', None, 'slurm: time limit, such as 12:00:00.')
flags.DEFINE_multi_string(
  'sbatch_arg',
  [],
  'slurm: further setting of sbatch, such as --account=NAME; may be given'
  ' again.',
)
# They have a meaning on every backend.
_COMMON = frozenset({'grace_minutes'})


def main(args: list[str]) -> int:
  """Runs the job of the flags.

  Args:
    args: of the binary.

  Returns:
    The exit status.

  Raises:
    UserError: of the flags, or of the machines.
  """
  job = job_lib.make(_NAME.value, _BINARY.value, args=args, env=_ENV.value)
  _refuse_options_of_others()
  state_dir = pathlib.Path(os.path.expanduser(_STATE_DIR.value))
  backend_class = registry.BACKENDS[_BACKEND.value]
  options = {
    name: flags.FLAGS[name].value for name in backend_class.OPTIONS | _COMMON
  }
  backend = backend_class(job, {**options, 'state_dir': state_dir})
  if _DRY_RUN.value:
    print('\n'.join(map(str, backend.plan())))
    return 0
  limits = restarts.Limits(
    max_restarts=_MAX_RESTARTS.value,
    max_crashes=_MAX_CRASHES.value,
    hang_seconds=60 * _HANG_TIMEOUT_MINUTES.value,
    grace_seconds=60 * _GRACE_MINUTES.value,
  )
  with contextlib.ExitStack() as stack:
    stack.enter_context(
      lock.hold(
        state_dir / job.name / 'lock',
        f'Another launcher (process {{pid}}) follows {job.name} already.',
      )
    )
    if job.is_writer:
      stack.enter_context(
        lock.hold(
          state_dir / '.folders' / job.folder_digest,
          f'Another launcher (process {{pid}}) runs a job that writes'
          f' {job.folder}; two writers would damage it. Choose another folder.',
        )
      )
    stop = stack.enter_context(stop_request.StopRequest())
    return supervisor.Supervisor(
      backend, limits, keep=_KEEP.value, output=sys.stdout, stop=stop
    ).run()


def _refuse_options_of_others() -> None:
  own = registry.BACKENDS[_BACKEND.value].OPTIONS
  for other, backend in registry.BACKENDS.items():
    for name in sorted(backend.OPTIONS - own - _COMMON):
      if flags.FLAGS[name].present:
        raise errors.InputError(
          f'--{name} is an option of --backend={other}; this is'
          f' --backend={_BACKEND.value}. Leave it away or change the backend.'
        )


if __name__ == '__main__':
  command_line.run(main)
