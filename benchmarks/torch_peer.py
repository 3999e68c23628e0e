"""The same networks in PyTorch, in the memory formats and types it offers."""

import contextlib
import time
from typing import Any

import numpy as np
from PIL import Image
import torch
from torch.nn import functional
from torch.utils import data

from benchmarks import child
from benchmarks import measure
from benchmarks import torch_networks


def _platform():
  return 'gpu' if torch.cuda.is_available() else 'cpu'


class _Trainer:
  """A network with its optimiser, on the device."""

  def __init__(self, spec: child.Spec):
    torch.set_num_threads(spec.num_cores)
    self.device = torch.device('cuda' if _platform() == 'gpu' else 'cpu')
    self.memory_format = (
      torch.channels_last
      if 'channels_last' in spec.variant
      else torch.contiguous_format
    )
    self._bfloat16 = 'bfloat16' in spec.variant
    network = torch_networks.make(spec)
    self.num_parameters = sum(p.numel() for p in network.parameters())
    spec.check_parameters(self.num_parameters)
    network = network.to(self.device, memory_format=self.memory_format)
    optimizer = spec.config['optimizer']
    self._optimizer = torch.optim.Adam(
      [p for p in network.parameters() if p.requires_grad],
      optimizer['learning_rate'],
      betas=(optimizer['beta1'], optimizer['beta2']),
      eps=optimizer['epsilon'],
      fused=True,
    )
    self._network = network
    if 'compiled' in spec.variant:
      self._network = torch.compile(network)

  def train(self, images: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    """One step; returns the loss."""
    self._network.train()
    with self._autocast():
      logits = self._network(images)
    loss = functional.binary_cross_entropy_with_logits(
      logits.float(), labels, reduction='sum'
    ) / len(labels)
    self._optimizer.zero_grad(set_to_none=True)
    loss.backward()
    self._optimizer.step()
    return loss

  def infer(self, images: torch.Tensor) -> torch.Tensor:
    """Logits [B, num_genres]."""
    self._network.eval()
    with torch.inference_mode(), self._autocast():
      return self._network(images)

  def wait(self, _: Any) -> None:
    """Returns when the device is done."""
    if self.device.type == 'cuda':
      torch.cuda.synchronize()

  def _autocast(self):
    if not self._bfloat16:
      return contextlib.nullcontext()
    return torch.autocast(self.device.type, torch.bfloat16)


def measure_step(spec: child.Spec) -> dict[str, Any]:
  """Training and inference on float32 images that are there already."""
  trainer = _Trainer(spec)
  images = torch.rand(spec.batch_size, 3, *spec.image_shape).to(
    trainer.device, memory_format=trainer.memory_format
  )
  labels = (torch.rand(spec.batch_size, spec.num_genres) < 0.1).float()
  labels = labels.to(trainer.device)
  timing = {'batch_size': spec.batch_size, 'num_steps': spec.num_steps}
  training = measure.time_steps(
    lambda: trainer.train(images, labels), trainer.wait, **timing
  )
  inference = measure.time_steps(
    lambda: trainer.infer(images), trainer.wait, **timing
  )
  return {
    'num_parameters': trainer.num_parameters,
    'training_images_per_second': training['images_per_second'],
    'inference_images_per_second': inference['images_per_second'],
    'compile_seconds': training['compile_seconds'],
  }


class _Posters(data.Dataset):
  """Posters decoded by Pillow, as uint8 [3, H, W], and their labels."""

  def __init__(self, spec: child.Spec, key: str):
    self._paths, self._labels = spec.read_split(key)
    self._height, self._width = spec.image_shape

  def __len__(self) -> int:
    return len(self._paths)

  def __getitem__(self, index: int) -> tuple[np.ndarray, np.ndarray]:
    size = (self._width, self._height)
    with Image.open(self._paths[index]) as image:
      image.draft('RGB', size)
      resized = image.convert('RGB').resize(size, Image.Resampling.BILINEAR)
    return np.asarray(resized).transpose(2, 0, 1), self._labels[index]


def _make_loader(spec, key, *, num_epochs=1):
  posters = _Posters(spec, key)
  sampler = None
  if key == 'train_split':
    sampler = data.RandomSampler(posters, num_samples=num_epochs * len(posters))
  return data.DataLoader(
    posters,
    spec.batch_size,
    sampler=sampler,
    num_workers=spec.num_cores,
    pin_memory=torch.cuda.is_available(),
  )


def measure_input(spec: child.Spec) -> dict[str, Any]:
  """Reading, decoding and resizing, in as many processes as there are cores."""
  return measure.time_batches(
    _make_loader(spec, 'train_split', num_epochs=measure.NUM_EPOCHS),
    batch_size=spec.batch_size,
    num_batches=max(1, spec.num_images // spec.batch_size),
  )


def measure_epoch(spec: child.Spec) -> dict[str, Any]:
  """One epoch from the files, with validation."""
  started = time.perf_counter()
  trainer = _Trainer(spec)

  def place(images):
    images = images.to(trainer.device, memory_format=trainer.memory_format)
    return (
      images.float()
      .sub_(spec.config['pixel_mean'])
      .div_(spec.config['pixel_scale'])
    )

  for images, labels in _make_loader(spec, 'train_split'):
    trainer.train(place(images), labels.to(trainer.device))
  for images, _ in _make_loader(spec, 'validation_split'):
    trainer.infer(place(images))
  trainer.wait(None)
  return {'seconds': time.perf_counter() - started}


if __name__ == '__main__':
  child.answer(
    {'step': measure_step, 'input': measure_input, 'epoch': measure_epoch},
    platform=_platform,
  )
