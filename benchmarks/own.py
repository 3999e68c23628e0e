"""The speed of genre_flax itself: its own run, its own steps."""

from collections.abc import Generator
import contextlib
import tempfile
import time
from typing import Any

import jax
import ml_collections
import numpy as np

from benchmarks import child
from benchmarks import measure
from genre_flax import config as config_lib
from genre_flax.evaluation import evaluate
from genre_flax.runtime import accelerators
from genre_flax.runtime import parallel
from genre_flax.runtime import platform
from genre_flax.training import inputs
from genre_flax.training import restore
from genre_flax.training import setup as setup_lib
from genre_flax.training import train
from genre_flax.training import train_state


def _config(spec):
  config = ml_collections.ConfigDict(spec.config)
  config.dataset.data_dir = spec.data_dir
  config.dataset.synthetic_posters = 0  # Those are in data_dir by now.
  return config


def measure_step(spec: child.Spec) -> dict[str, Any]:
  """Training and inference on synthetic images, the same at every step."""
  with tempfile.TemporaryDirectory(prefix='genre_flax_') as workdir:
    config = _config(spec)
    dataset, setup = setup_lib.set_up(config, workdir)
  state = parallel.replicate(restore.initial_state(config, dataset, setup))
  num_parameters = train_state.count_parameters(state.params)
  spec.check_parameters(num_parameters)
  train_step = setup_lib.make_train_step(config, setup)
  eval_step = evaluate.make_eval_step(
    setup.model, config_lib.preprocessing(config)
  )
  with contextlib.closing(
    parallel.shard_ahead(_synthetic_batches(spec))
  ) as batches:

    def train_once():
      nonlocal state
      state, values = train_step(state, next(batches))
      return values['loss']

    timing = {'batch_size': spec.batch_size, 'num_steps': spec.num_steps}
    training = measure.time_steps(train_once, jax.block_until_ready, **timing)
    variables = state.eval_variables()
    inference = measure.time_steps(
      lambda: eval_step(variables, next(batches)),
      jax.block_until_ready,
      **timing,
    )
    return {
      'num_parameters': num_parameters,
      'training_images_per_second': training['images_per_second'],
      'inference_images_per_second': inference['images_per_second'],
      'compile_seconds': training['compile_seconds'],
      **_of_accelerator(
        lambda: train_step.lower(state, next(batches)).compile(),
        steps_per_second=training['images_per_second'] / spec.batch_size,
      ),
    }


def _synthetic_batches(spec: child.Spec) -> Generator[parallel.Batch]:
  """One batch of noise again and again, on the host."""
  rng = np.random.default_rng(0)
  size = spec.batch_size
  shape = (size, *spec.image_shape, 3)
  batch = {
    'image': rng.integers(0, 256, shape, np.uint8),
    'labels': (rng.random((size, spec.num_genres)) < 0.1).astype(np.float32),
    'mask': np.ones(size, np.float32),
    'index': np.arange(size, dtype=np.int32),
  }
  while True:
    yield batch


def _of_accelerator(compile_step, *, steps_per_second):
  """What only an accelerator has: a known peak, and memory of its own."""
  if jax.default_backend() == 'cpu':
    return {}
  kind = jax.local_devices()[0].device_kind
  flops_per_second = compile_step().cost_analysis()['flops'] * steps_per_second
  result = {'device_kind': kind, 'tflops_per_second': flops_per_second / 1e12}
  memory = parallel.peak_device_memory_gb()
  if memory is not None:
    result['peak_device_memory_gb'] = memory
  if kind in accelerators.CHIPS:
    peak = accelerators.CHIPS[kind].flops_per_second
    result['peak_flops_share'] = flops_per_second / peak
  return result


def measure_input(spec: child.Spec) -> dict[str, Any]:
  """Reading, decoding and resizing, with nothing to wait for the batches."""
  with tempfile.TemporaryDirectory(prefix='genre_flax_') as workdir:
    config = _config(spec)
    dataset, setup = setup_lib.set_up(config, workdir)
  split = inputs.open_split(config, dataset, config.dataset.train_split)
  with contextlib.closing(
    inputs.train_batches(config, split, sizes=setup.sizes, start_step=0)
  ) as batches:
    return measure.time_batches(
      batches,
      batch_size=spec.batch_size,
      num_batches=max(1, spec.num_images // spec.batch_size),
    )


def measure_growth(spec: child.Spec) -> dict[str, Any]:
  """The same, as time; its memory is that of the process."""
  rate = measure_input(spec)['images_per_second']
  return {'milliseconds_per_image': 1000 / rate}


def measure_epoch(spec: child.Spec) -> dict[str, Any]:
  """One epoch as `genre_flax.main` does it, with validation and checkpoint."""
  started = time.perf_counter()
  with tempfile.TemporaryDirectory(prefix='genre_flax_') as workdir:
    train.train(_config(spec), workdir)
    return {'seconds': time.perf_counter() - started}


if __name__ == '__main__':
  platform.restart_with_huge_pages()
  platform.configure()
  child.answer(
    {
      'step': measure_step,
      'input': measure_input,
      'epoch': measure_epoch,
      'growth': measure_growth,
    },
    platform=jax.default_backend,
  )
