"""What a run is, in words, for the log."""

import jax
import ml_collections
import numpy as np

from genre_flax import config as config_lib
from genre_flax.datasets.posters import storage
from genre_flax.models import params as params_lib
from genre_flax.ops.cpu import onednn
from genre_flax.runtime import parallel
from genre_flax.training import train_state

# A network with more arrays than this is shown by its modules.
_MAX_LINES = 40


def describe_run(
  config: ml_collections.ConfigDict,
  schedule: config_lib.Schedule,
  dataset: storage.PosterDataset,
) -> str:
  """Devices, splits, label prior and the arithmetic of batches and steps."""
  height, width = config_lib.image_shape(config)
  splits = ', '.join(
    f'{described["num_examples"]:,} {split}'
    for split, described in dataset.card['splits'].items()
  )
  by_share = np.argsort(-dataset.label_prior, kind='stable')
  prior = ', '.join(
    f'{dataset.genres[i]} {dataset.label_prior[i]:.1%}' for i in by_share
  )
  return '\n'.join(
    [
      'The run:',
      f'  devices      {parallel.describe_devices()}',
      *_describe_convolutions(config.model.dtype),
      f'  data         {dataset.data_dir}: {splits}',
      f'  genres       {len(dataset.genres)}: {prior}',
      f'  input        {height} x {width} pixels',
      f'  batch        {schedule.global_batch_size} = {parallel.num_hosts()}'
      f' host(s) x {jax.local_device_count()} device(s) x'
      f' {schedule.per_device_batch_size}'
      + (
        f', in {config.accumulate_steps} parts'
        if config.accumulate_steps > 1
        else ''
      ),
      f'  steps        {schedule.num_train_steps:,} ='
      f' {schedule.num_train_steps / schedule.steps_per_epoch:.2f} epochs x'
      f' {schedule.steps_per_epoch:.2f} steps ({schedule.num_train_examples:,}'
      f' posters / {schedule.global_batch_size}); warm-up'
      f' {schedule.num_warmup_steps}',
      f'  evaluation   every {schedule.eval_every_steps} steps, batches of'
      f' {schedule.global_eval_batch_size}',
    ]
  )


def _describe_convolutions(dtype: str) -> list[str]:
  if jax.default_backend() != 'cpu':
    return []
  return [f'  convolutions {onednn.describe(dtype)}']


def describe_parameters(params: dict, *, trainable: str) -> str:
  """A line for each array of parameters, and their number.

  Args:
    params: a tree.
    trainable: pattern of those that are trained, of `params.split`.
  """
  trained, _ = params_lib.split(params, trainable)
  flat = params_lib.flatten(params, sep='/')
  name_width = max(len(name) for name in flat)
  lines = [
    f'The network: {train_state.count_parameters(params):,} parameters,'
    f' {train_state.count_parameters(trained):,} of them trained'
  ]
  if len(flat) > _MAX_LINES:
    return '\n'.join([*lines, *_sums_by_module(flat)])
  for name, value in flat.items():
    shape = ' x '.join(str(size) for size in value.shape)
    lines.append(f'  {name:{name_width}}  {value.size:>10,}  {shape}')
  return '\n'.join(lines)


def _sums_by_module(flat):
  """A line for each module at the second level of the tree."""
  sums = {}
  for path, value in flat.items():
    module = '/'.join(path.split('/')[:2])
    sums[module] = sums.get(module, 0) + value.size
  width = max(map(len, sums))
  return [f'  {name:{width}}  {size:>10,}' for name, size in sums.items()]


def describe_metrics(
  step: int, split: str, values: dict[str, float], *, seconds: float
) -> str:
  """The metrics of a split in one line."""
  return (
    f'step {step}  {split}: loss {values["loss"]:.4f}'
    f'  mean AP {values["mean_average_precision"]:.4f}'
    f'  AUC {values["mean_roc_auc"]:.4f}'
    f'  accuracy {values["accuracy"]:.4f}'
    f'  recall at 3 {values["recall_at_3"]:.4f}'
    f'  ({seconds:.1f} s)'
  )
