"""The ways to get machines, by name."""

from launch.jobs.backends import base
from launch.jobs.backends import gke
from launch.jobs.backends import local
from launch.jobs.backends import slurm
from launch.jobs.backends import tpu_vm

BACKENDS: dict[str, type[base.Backend]] = {
  'local': local.Local,
  'tpu_vm': tpu_vm.TpuVm,
  'gke': gke.Gke,
  'slurm': slurm.Slurm,
}
