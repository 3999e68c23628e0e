"""Measurements of PyTorch, with the networks of timm (Wightman, 2019)."""

import contextlib
import time
from typing import Any

import numpy as np
from PIL import Image
import timm
import torch
from torch import nn
from torch.nn import functional
from torch.utils import data

from benchmarks import measurement


def _platform():
  return 'gpu' if torch.cuda.is_available() else 'cpu'


def make_network(spec: measurement.Spec) -> nn.Module:
  """The network of a config; maps [B, 3, H, W] to logits [B, num_genres]."""
  if not spec.timm:
    return _make_poster_cnn(spec)
  name, arguments = spec.timm
  network = timm.create_model(
    name,
    **arguments,
    num_classes=spec.num_genres,
    drop_rate=spec.options['dropout_rate'],
    drop_path_rate=spec.options['stochastic_depth_rate'],
  )
  for name in spec.frozen:
    network.get_parameter(name).requires_grad_(False)
  return network


def _make_poster_cnn(spec):
  """The original poster classifier; see genre_flax/models/poster_cnn.py."""
  options, channels, layers = spec.options, 3, []
  height, width = spec.image_shape
  for features in options['features']:
    size = options['kernel_size']
    layers += [
      nn.Conv2d(channels, features, size),
      # Equal to ReLU before the pool, on a quarter of the pixels.
      nn.MaxPool2d(2),
      nn.ReLU(inplace=True),
      nn.Dropout(options['conv_dropout_rate']),
    ]
    channels = features
    height, width = (height - size + 1) // 2, (width - size + 1) // 2
  layers.append(nn.Flatten())
  width = channels * height * width
  for features in options['dense_features']:
    layers += [
      nn.Linear(width, features),
      nn.ReLU(inplace=True),
      nn.Dropout(options['dense_dropout_rate']),
    ]
    width = features
  return nn.Sequential(*layers, nn.Linear(width, spec.num_genres))


class Trainer:
  """A network with its optimizer, on the device."""

  def __init__(self, spec: measurement.Spec):
    torch.set_num_threads(spec.num_cores)
    self.device = torch.device('cuda' if _platform() == 'gpu' else 'cpu')
    self.memory_format = (
      torch.channels_last
      if 'channels_last' in spec.variant
      else torch.contiguous_format
    )
    self._bfloat16 = 'bfloat16' in spec.variant
    network = make_network(spec)
    spec.check_parameters(sum(p.numel() for p in network.parameters()))
    network = network.to(self.device, memory_format=self.memory_format)
    # Frozen BatchNorm uses its running statistics in training too.
    self._frozen_norms = [
      module
      for module in network.modules()
      if isinstance(module, nn.BatchNorm2d)
      and spec.options['batch_norm'] == 'frozen'
    ]
    optimizer = spec.config['optimizer']
    self._optimizer = torch.optim.Adam(
      [p for p in network.parameters() if p.requires_grad],
      optimizer['learning_rate'],
      betas=(optimizer['beta1'], optimizer['beta2']),
      eps=optimizer['epsilon'],
      fused=True,
    )
    self.network = network
    if 'compiled' in spec.variant:
      self.network = torch.compile(network)

  def train(self, images: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    """Runs one step; returns the loss."""
    self.network.train()
    for module in self._frozen_norms:
      module.eval()
    with self._autocast():
      logits = self.network(images)
    loss = functional.binary_cross_entropy_with_logits(
      logits.float(), labels, reduction='sum'
    ) / len(labels)
    self._optimizer.zero_grad(set_to_none=True)
    loss.backward()
    self._optimizer.step()
    return loss

  def infer(self, images: torch.Tensor) -> torch.Tensor:
    """Logits [B, num_genres]."""
    self.network.eval()
    with torch.inference_mode(), self._autocast():
      return self.network(images)

  def wait(self, _: Any) -> None:
    """Returns when the device is idle."""
    if self.device.type == 'cuda':
      torch.cuda.synchronize()

  def _autocast(self):
    if not self._bfloat16:
      return contextlib.nullcontext()
    return torch.autocast(self.device.type, torch.bfloat16)


def measure_step(spec: measurement.Spec) -> dict[str, Any]:
  """Training and inference on float32 images on the device."""
  trainer = Trainer(spec)
  images = torch.rand(spec.batch_size, 3, *spec.image_shape).to(
    trainer.device, memory_format=trainer.memory_format
  )
  labels = (torch.rand(spec.batch_size, spec.num_genres) < 0.1).float()
  labels = labels.to(trainer.device)
  return measurement.time_training_and_inference(
    spec,
    train=lambda: trainer.train(images, labels),
    infer=lambda: trainer.infer(images),
    wait=trainer.wait,
  )


class _Posters(data.Dataset):
  """Posters decoded by Pillow as uint8 [3, H, W], and their labels."""

  def __init__(self, spec: measurement.Spec, key: str):
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


def measure_input(spec: measurement.Spec) -> dict[str, Any]:
  """Reading, decoding and resizing, in one process per core."""
  return measurement.time_batches(
    _make_loader(spec, 'train_split', num_epochs=measurement.NUM_EPOCHS),
    spec,
  )


def measure_epoch(spec: measurement.Spec) -> dict[str, Any]:
  """One epoch from the files, with validation."""
  started = time.perf_counter()
  trainer = Trainer(spec)

  def preprocess(images):
    images = images.to(trainer.device, memory_format=trainer.memory_format)
    return (
      images.float()
      .sub_(spec.config['pixel_mean'])
      .div_(spec.config['pixel_scale'])
    )

  for images, labels in _make_loader(spec, 'train_split'):
    trainer.train(preprocess(images), labels.to(trainer.device))
  for images, _ in _make_loader(spec, 'validation_split'):
    trainer.infer(preprocess(images))
  trainer.wait(None)
  return {'seconds': time.perf_counter() - started}


if __name__ == '__main__':
  measurement.respond(
    {'step': measure_step, 'input': measure_input, 'epoch': measure_epoch},
    platform=_platform,
  )
