"""The ways to get machines, by name."""

from launch.backends import base
from launch.backends import gke
from launch.backends import local
from launch.backends import slurm
from launch.backends import tpu_vm

BACKENDS: dict[str, type[base.Backend]] = {
  'local': local.Local,
  'tpu_vm': tpu_vm.TpuVm,
  'gke': gke.Gke,
  'slurm': slurm.Slurm,
}
