"""Measurements of genre_flax."""

from collections.abc import Generator
import contextlib
import tempfile
import time
from typing import Any

import jax
import ml_collections
import numpy as np

from benchmarks import measurement
from genre_flax import config as config_lib
from genre_flax.evaluation import evaluator
from genre_flax.runtime import accelerators
from genre_flax.runtime import parallel
from genre_flax.runtime import platform
from genre_flax.training import inputs
from genre_flax.training import restore
from genre_flax.training import setup as setup_lib
from genre_flax.training import train
from genre_flax.training import train_state


def _make_config(spec: measurement.Spec) -> ml_collections.ConfigDict:
  config = ml_collections.ConfigDict(spec.config)
  config.dataset.data_dir = spec.data_dir
  config.dataset.synthetic_posters = 0  # data_dir contains them.
  return config


def _set_up(config):
  with tempfile.TemporaryDirectory(prefix='genre_flax_') as workdir:
    return setup_lib.set_up(config, workdir)


def measure_step(spec: measurement.Spec) -> dict[str, Any]:
  """Training and inference on a batch of noise in host memory."""
  config = _make_config(spec)
  dataset, setup = _set_up(config)
  state = parallel.replicate(restore.initial_state(config, dataset, setup))
  spec.check_parameters(train_state.count_parameters(state.params))
  train_step = setup_lib.make_train_step(config, setup)
  eval_step = evaluator.make_eval_step(
    setup.model, config_lib.preprocessing(config)
  )
  with contextlib.closing(
    parallel.shard_ahead(_noise_batches(spec))
  ) as batches:

    def train_once():
      nonlocal state
      state, values = train_step(state, next(batches))
      return values['loss']

    rates = measurement.time_training_and_inference(
      spec,
      train=train_once,
      infer=lambda: eval_step(state.eval_variables(), next(batches)),
      wait=jax.block_until_ready,
    )
    steps_per_second = rates['training_images_per_second'] / spec.batch_size
    return rates | _accelerator_metrics(
      lambda: train_step.lower(state, next(batches)).compile(),
      steps_per_second=steps_per_second,
    )


def _noise_batches(spec: measurement.Spec) -> Generator[parallel.Batch]:
  rng = np.random.default_rng(0)
  size = spec.batch_size
  batch = {
    'image': rng.integers(0, 256, (size, *spec.image_shape, 3), np.uint8),
    'labels': (rng.random((size, spec.num_genres)) < 0.1).astype(np.float32),
    'mask': np.ones(size, np.float32),
    'index': np.arange(size, dtype=np.int32),
  }
  while True:
    yield batch


def _accelerator_metrics(compile_step, *, steps_per_second):
  """FLOP/s, their share of the chip's peak, and memory; empty on CPU."""
  if jax.default_backend() == 'cpu':
    return {}
  kind = jax.local_devices()[0].device_kind
  flops_per_second = compile_step().cost_analysis()['flops'] * steps_per_second
  result = {'device_kind': kind, 'tflops_per_second': flops_per_second / 1e12}
  memory = parallel.peak_device_memory_gb()
  if memory is not None:
    result['peak_device_memory_gb'] = memory
  chip = accelerators.CHIPS.get(kind)
  if chip and chip.flops_per_second:
    result['peak_flops_share'] = flops_per_second / chip.flops_per_second
  return result


def measure_input(spec: measurement.Spec) -> dict[str, Any]:
  """Reading, decoding and resizing."""
  config = _make_config(spec)
  dataset, setup = _set_up(config)
  split = inputs.open_split(config, dataset, config.dataset.train_split)
  with contextlib.closing(
    inputs.train_batches(config, split, sizes=setup.sizes, start_step=0)
  ) as batches:
    return measurement.time_batches(batches, spec)


def measure_epoch(spec: measurement.Spec) -> dict[str, Any]:
  """One epoch of `genre_flax.main`, with validation and a checkpoint."""
  started = time.perf_counter()
  with tempfile.TemporaryDirectory(prefix='genre_flax_') as workdir:
    train.train(_make_config(spec), workdir)
    return {'seconds': time.perf_counter() - started}


if __name__ == '__main__':
  platform.restart_with_huge_pages()
  platform.configure()
  measurement.respond(
    {'step': measure_step, 'input': measure_input, 'epoch': measure_epoch},
    platform=jax.default_backend,
  )
