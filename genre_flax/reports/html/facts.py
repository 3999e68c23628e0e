"""What the files of a workdir say of its run."""

from collections.abc import Iterator, Sequence
import dataclasses
import datetime
from typing import Any

from absl import logging
from etils import epath
import jax
import numpy as np

from configs import default
from genre_flax import config as config_lib
from genre_flax.datasets.posters import storage
from genre_flax.inference import predictor as predictor_lib
from genre_flax.runtime import errors
from genre_flax.runtime import metric_writer
from genre_flax.training import run_history

Line = metric_writer.Line


@dataclasses.dataclass(frozen=True)
class ChangedKey:
  """A key of the config that differs from the default."""

  key: str
  value: str
  default: str


@dataclasses.dataclass(frozen=True)
class Facts:
  """Of a run.

  Attributes:
    workdir: of the run.
    predictor: of the checkpoint that is reported on.
    card: the data card of its data set, or None where that is not there.
    history: the lines of metrics.jsonl.
    starts: of `starts.read`.
    changed: keys of the config.
  """

  workdir: epath.Path
  predictor: predictor_lib.Predictor
  card: dict[str, Any] | None
  history: Sequence[Line]
  starts: Sequence[dict[str, Any]]
  changed: Sequence[ChangedKey]

  @property
  def name(self) -> str:
    """The last part of the workdir's path."""
    return self.workdir.resolve().name

  @property
  def network(self) -> str:
    """Its name, size and input."""
    config = self.predictor.config
    params = self.predictor.variables['params']
    size = sum(np.size(leaf) for leaf in jax.tree.leaves(params))
    height, width = self.predictor.image_shape
    return (
      f'{config.model.name}, {size:,} parameters, posters of {height} x'
      f' {width} pixels'
    )

  @property
  def data(self) -> str:
    """Posters, splits and genres."""
    genres = f'{len(self.predictor.genres)} genres'
    if self.card is None:
      return f'{genres}; the data set is not here'
    splits = ', '.join(
      f'{described["num_examples"]:,} {split}'
      for split, described in self.card['splits'].items()
    )
    return (
      f'{self.card["num_examples"]:,} posters ({splits}) of {genres},'
      f' fingerprint {self.predictor.fingerprint}'
    )

  @property
  def training(self) -> str:
    """How long it was trained, and which checkpoint this is."""
    steps = max((line['step'] for line in self.history), default=0)
    words = [f'{steps:,} steps of {self.predictor.config.batch_size} posters']
    if self.seconds:
      words.append(f'in {_duration(self.seconds)}')
    words.append(
      f'this is the checkpoint of step {self.predictor.step:,}'
      f' ({self.predictor.which})'
    )
    return ', '.join(words)

  @property
  def machine(self) -> str:
    """What it ran on, and the memory that it took."""
    words = []
    if self.starts:
      last = self.starts[-1]
      words.append(str(last.get('devices', '')))
      words.append(
        f'{last.get("num_cores", "?")} cores of {last.get("processor", "?")}'
      )
    memory = self.peak('peak_memory_gb')
    if memory is not None:
      words.append(f'at most {memory:.2f} GB of memory')
    device_memory = self.peak('peak_device_memory_gb')
    if device_memory is not None:
      words.append(f'{device_memory:.2f} GB on a device')
    return '; '.join(filter(None, words)) or 'not recorded'

  def peak(self, name: str) -> float | None:
    """The highest value of a training metric, or None."""
    return max((v for _, v in self.series('train', name)), default=None)

  @property
  def seconds(self) -> float:
    """Spent on training and validation, of all starts together."""
    return sum(self._seconds_of_lines())

  def _seconds_of_lines(self) -> Iterator[float]:
    last = 0
    for line in self.history:
      rate = _number(line.get('images_per_second'))
      if line['split'] == 'train' and rate:
        yield (line['step'] - last) * self.predictor.config.batch_size / rate
        last = line['step']
      elif line['split'] != 'train':
        yield _number(line.get('seconds')) or 0.0

  def series(self, split: str, name: str) -> list[tuple[int, float]]:
    """A metric of a split by step."""
    return [
      (line['step'], value)
      for line in self.history
      if line['split'] == split
      and (value := _number(line.get(name))) is not None
    ]

  @property
  def validation_split(self) -> str:
    """The split that was watched during the training."""
    return str(self.predictor.config.dataset.validation_split)


def gather(
  workdir: epath.Path, predictor: predictor_lib.Predictor, *, data_dir: str
) -> Facts:
  """Reads what a workdir says of its run.

  Args:
    workdir: of the run.
    predictor: restored from it.
    data_dir: of its data set, which need not be there.

  Returns:
    The facts.
  """
  return Facts(
    workdir=workdir,
    predictor=predictor,
    card=_read_card(data_dir),
    history=[line for line in metric_writer.read(workdir) if 'split' in line],
    starts=run_history.read(workdir),
    changed=_changed_keys(config_lib.to_dict(predictor.config)),
  )


def _read_card(data_dir):
  try:
    return storage.read_card(data_dir)
  except errors.InputError as e:
    logging.warning('The report is without the data card: %s', e)
    return None


def _changed_keys(config: dict[str, Any]) -> list[ChangedKey]:
  """The keys whose values are not those of configs/default.py."""
  given = config_lib.flatten(config)
  usual = config_lib.flatten(config_lib.to_dict(default.get_config()))
  return [
    ChangedKey(key, repr(given[key]), repr(usual.get(key, '(not there)')))
    for key in sorted(given)
    if key not in usual or given[key] != usual[key]
  ]


def _number(value: Any) -> float | None:
  return float(value) if isinstance(value, int | float) else None


def _duration(seconds: float) -> str:
  return str(datetime.timedelta(seconds=round(seconds)))
