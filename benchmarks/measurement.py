"""Specification, timing and result of one measurement.

All measuring processes import this module; it imports no large library, which
would add to their memory.
"""

from collections.abc import Callable, Iterable, Mapping
import dataclasses
import itertools
import json
import pathlib
import sys
import time
from typing import Any

import numpy as np

from genre_flax.runtime import errors

# Epochs of a timed input stream. A stream that ended with the timed part would
# favor libraries that prepare batches ahead of time.
NUM_EPOCHS = 2
_NUM_WARMUP_STEPS = 2
# Input pipelines prepare several batches at a time, so the first ones come in
# bursts.
_NUM_WARMUP_BATCHES = 8


@dataclasses.dataclass(frozen=True)
class Spec:
  """One measurement of one library; all values can be written as JSON.

  Attributes:
    library: a key of `libraries.LIBRARIES`.
    measurement: such as 'step'.
    variant: settings of the library, in words.
    config: of the run, by `config.to_dict`.
    num_steps: timed steps.
    num_cores: cores of the machine, for threads and workers.
    num_genres: number of logits.
    num_parameters: parameters of the network of genre_flax.
    image_shape: (height, width) of the input, in pixels.
    timm: name and arguments of the network in timm; empty if it has none.
    frozen: timm's names of the parameters that are not trained.
    num_examples: posters by split.
    data_dir: folder of the prepared dataset.
    files: folder of its posters as image files.
  """

  library: str
  measurement: str
  variant: str = ''
  config: dict[str, Any] = dataclasses.field(default_factory=dict)
  num_steps: int = 1
  num_cores: int = 1
  num_genres: int = 0
  num_parameters: int = 0
  image_shape: tuple[int, int] = (0, 0)
  timm: list[Any] = dataclasses.field(default_factory=list)
  frozen: list[str] = dataclasses.field(default_factory=list)
  num_examples: dict[str, int] = dataclasses.field(default_factory=dict)
  data_dir: str = ''
  files: str = ''

  def __str__(self) -> str:
    return f'{self.library} ({self.variant}), {self.measurement}'

  @property
  def batch_size(self) -> int:
    """Posters per step."""
    return self.config['batch_size']

  @property
  def options(self) -> dict[str, Any]:
    """`config.model.NETWORK`."""
    return self.config['model'][self.config['model']['name']]

  def read_split(self, key: str) -> tuple[list[str], np.ndarray]:
    """Paths of the image files of a split, and its labels.

    Args:
      key: of config.dataset, such as 'train_split'.

    Returns:
      `num_examples` paths, repeated if there are fewer files, and float32
      [posters, num_genres].
    """
    split = self.config['dataset'][key]
    folder = pathlib.Path(self.files)
    labels = np.load(folder / f'{split}.npy')
    chosen = np.arange(self.num_examples[split]) % len(labels)
    paths = [str(folder / split / f'{index:05d}.jpg') for index in chosen]
    return paths, labels[chosen]

  def check_parameters(self, count: int) -> None:
    """Checks that a network has the size of the one of genre_flax.

    Raises:
      InputError: `count` is not `num_parameters`.
    """
    if count != self.num_parameters:
      raise errors.InputError(
        f'The network {self.config["model"]["name"]} has {count:,} parameters'
        f' in {self.library} and {self.num_parameters:,} in genre_flax;'
        ' networks of different sizes cannot be compared.'
      )


def time_training_and_inference(
  spec: Spec,
  *,
  train: Callable[[], Any],
  infer: Callable[[], Any],
  wait: Callable[[Any], Any],
) -> dict[str, float]:
  """Times training and inference steps, after a warm-up.

  Args:
    spec: of the measurement.
    train: starts a training step and returns the argument of `wait`.
    infer: the same for inference.
    wait: returns when that step is complete.

  Returns:
    The rates, and 'compile_seconds': the additional time of the first step.
  """
  training, compile_seconds = _time_steps(train, wait, spec)
  inference, _ = _time_steps(infer, wait, spec)
  return {
    'training_images_per_second': training,
    'inference_images_per_second': inference,
    'compile_seconds': compile_seconds,
  }


def _time_steps(
  step: Callable[[], Any], wait: Callable[[Any], Any], spec: Spec
) -> tuple[float, float]:
  """Times a step; each one is dispatched before the previous one is complete.

  Returns:
    Images per second, and the additional seconds of the first step.
  """
  started = time.perf_counter()
  wait(step())
  first = time.perf_counter() - started
  for _ in range(_NUM_WARMUP_STEPS):
    wait(step())
  started = time.perf_counter()
  pending = step()
  for _ in range(spec.num_steps - 1):
    following = step()
    wait(pending)
    pending = following
  wait(pending)
  seconds = (time.perf_counter() - started) / spec.num_steps
  return spec.batch_size / seconds, max(first - seconds, 0.0)


def time_batches(batches: Iterable[Any], spec: Spec) -> dict[str, float]:
  """Times one epoch of an input pipeline; the batches are discarded.

  Args:
    batches: NUM_EPOCHS epochs.
    spec: of the measurement.

  Returns:
    'images_per_second', without the first few batches.
  """
  iterator = iter(batches)
  num_images = spec.num_examples[spec.config['dataset']['train_split']]
  num_batches = max(1, num_images // spec.batch_size)
  num_warmup = min(_NUM_WARMUP_BATCHES, num_batches // 2)
  for _ in itertools.islice(iterator, num_warmup):
    pass
  started = time.perf_counter()
  num_timed = sum(
    1 for _ in itertools.islice(iterator, num_batches - num_warmup)
  )
  seconds = time.perf_counter() - started
  return {'images_per_second': num_timed * spec.batch_size / seconds}


def respond(
  measurements: Mapping[str, Callable[[Spec], dict[str, Any]]],
  *,
  platform: Callable[[], str],
) -> None:
  """Runs the measurement on the command line; the result is the last line.

  If it raises an InputError, the message is the last line.

  Args:
    measurements: functions by name, with JSON values as result.
    platform: returns 'cpu', 'gpu' or 'tpu'.
  """
  spec = Spec(**json.loads(sys.argv[1]))
  try:
    result = measurements[spec.measurement](spec)
  except errors.InputError as e:
    print(f'\n{json.dumps(str(e))}')
    sys.exit(e.exit_status)
  print(f'\n{json.dumps({"platform": platform(), **result})}')
