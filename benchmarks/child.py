"""What a child process is told, and how it answers.

This module and `measure` are in the processes of all contenders: they import
nothing that would show in the memory of one of them.
"""

from collections.abc import Callable, Mapping
import dataclasses
import json
import pathlib
import sys
from typing import Any

import numpy as np

from genre_flax.runtime import errors

INPUT_ERROR_STATUS = 2


@dataclasses.dataclass(frozen=True)
class Spec:
  """One measurement of one contender.

  Attributes:
    contender: a key of contenders.CONTENDERS, or 'data'.
    measurement: 'step', 'input' or 'epoch'; a function of the contender.
    variant: how the contender is set, in words.
    config: of the run, as `config.to_dict` gives it.
    num_steps: to time.
    num_cores: of the machine, for threads and workers.
    num_genres: number of logits.
    num_parameters: that the network must have.
    stages: of EfficientNet-Lite, where that is the network.
    timm: name and arguments of the network, where timm has it.
    num_images: to read through the input pipeline.
    num_examples: posters of each split.
    data_dir: the prepared data set.
    files: folder of its posters as files, of `data.export`.
  """

  contender: str
  measurement: str
  variant: str = ''
  config: dict[str, Any] = dataclasses.field(default_factory=dict)
  num_steps: int = 1
  num_cores: int = 1
  num_genres: int = 0
  num_parameters: int = 0
  stages: list[list[int]] = dataclasses.field(default_factory=list)
  timm: list[Any] = dataclasses.field(default_factory=list)
  num_images: int = 0
  num_examples: dict[str, int] = dataclasses.field(default_factory=dict)
  data_dir: str = ''
  files: str = ''

  @property
  def image_shape(self) -> tuple[int, int]:
    """(height, width) in pixels."""
    size = self.config['image_size']
    height, width = self.config['image_height'], self.config['image_width']
    return (size if height is None else height, width or size)

  @property
  def batch_size(self) -> int:
    """Posters a step."""
    return self.config['batch_size']

  @property
  def options(self) -> dict[str, Any]:
    """Of the network."""
    return self.config['model'][self.config['model']['name']]

  def read_split(self, key: str) -> tuple[list[str], np.ndarray]:
    """The files of a split and their labels.

    Args:
      key: of config.dataset that names the split.

    Returns:
      Paths, as many as `num_examples` says, and float32 [posters, num_genres].
    """
    split = self.config['dataset'][key]
    labels = np.load(pathlib.Path(self.files) / f'{split}.npy')
    chosen = np.arange(self.num_examples[split]) % len(labels)
    folder = pathlib.Path(self.files) / split
    return [str(folder / f'{index:05d}.jpg') for index in chosen], labels[
      chosen
    ]

  def check_parameters(self, count: int) -> None:
    """Refuses to compare networks that are not of the same size.

    Raises:
      InputError: `count` is not `num_parameters`.
    """
    if count != self.num_parameters:
      raise errors.InputError(
        f'The {self.config["model"]["name"]} of {self.contender} has'
        f' {count:,} parameters, that of genre_flax {self.num_parameters:,}:'
        ' they are not the same network, and their speeds say nothing about'
        ' each other.'
      )


def answer(
  measurements: Mapping[str, Callable[[Spec], dict[str, Any]]],
  *,
  platform: Callable[[], str],
) -> None:
  """Does what the process was started for; the result is the last line.

  Of an InputError the last line is the message.

  Args:
    measurements: functions by name; a result can be written as JSON.
    platform: tells what computes: 'cpu', 'gpu' or 'tpu'.
  """
  spec = Spec(**json.loads(sys.argv[1]))
  try:
    result = measurements[spec.measurement](spec)
  except errors.InputError as e:
    print(f'\n{json.dumps(str(e))}')
    sys.exit(INPUT_ERROR_STATUS)
  print(f'\n{json.dumps({"platform": platform(), **result})}')
