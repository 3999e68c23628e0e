"""The networks of genre_flax in PyTorch: layer by layer, or timm's."""

import collections
from collections.abc import Iterator, Sequence
import functools
import re

import torch
from torch import nn
from torch.nn import functional

from benchmarks import child

_STEM_FEATURES = 32
_TOP_FEATURES = 1280


def make(spec: child.Spec) -> nn.Module:
  """The network of a config; logits [B, num_genres] of images [B, 3, H, W]."""
  if spec.timm:
    return make_of_timm(spec)
  if spec.config['model']['name'] == 'poster_cnn':
    return make_poster_cnn(spec)
  return freeze(EfficientNetLite(spec), spec.config['trainable'])


def freeze(network: nn.Module, trainable: str) -> nn.Module:
  """Leaves parameters as they are that are not trained; see models/params.py.

  Args:
    network: whose parts have the names of genre_flax.
    trainable: what the whole path of a trained parameter matches.

  Returns:
    The network.
  """
  for name, parameter in network.named_parameters():
    path = name.replace('.', '/')
    parameter.requires_grad_(re.fullmatch(trainable, path) is not None)
  return network


def make_of_timm(spec: child.Spec) -> nn.Module:
  """Timm's ViT or ConvNeXt (Wightman, 2019), with random weights."""
  import timm

  name, arguments = spec.timm
  return timm.create_model(
    name,
    **arguments,
    num_classes=spec.num_genres,
    drop_rate=spec.options['dropout_rate'],
    drop_path_rate=spec.options['stochastic_depth_rate'],
  )


def make_poster_cnn(spec: child.Spec) -> nn.Module:
  """The original poster classifier; see genre_flax/models/poster_cnn.py."""
  options, channels, layers = spec.options, 3, []
  height, width = spec.image_shape
  for features in options['features']:
    size = options['kernel_size']
    layers += [
      nn.Conv2d(channels, features, size),
      # The same numbers as ReLU first, on a quarter of the pixels.
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


class ConvSame(nn.Conv2d):
  """A convolution without bias, padded as TensorFlow's 'SAME'."""

  def __init__(
    self, channels: int, features: int, size: int, stride: int, groups: int = 1
  ):
    # With stride 1 both sides get the same padding, which the layer can do.
    padding = size // 2 if stride == 1 else 0
    super().__init__(
      channels, features, size, stride, padding, groups=groups, bias=False
    )

  def forward(self, x: torch.Tensor) -> torch.Tensor:
    """Maps [B, C, H, W] to [B, F, ceil(H / stride), ceil(W / stride)]."""
    if self.stride[0] > 1:
      pads = []
      for length in (x.shape[3], x.shape[2]):
        size, stride = self.kernel_size[0], self.stride[0]
        total = max((-(-length // stride) - 1) * stride + size - length, 0)
        pads += [total // 2, total - total // 2]
      x = functional.pad(x, pads)
    return super().forward(x)


class Block(nn.Module):
  """An inverted residual block; see genre_flax/models/efficientnet_lite.py."""

  def __init__(
    self,
    channels: int,
    features: int,
    *,
    kernel_size: int,
    stride: int,
    expansion: int,
    drop_rate: float,
    norm: functools.partial,
  ):
    super().__init__()
    inner = channels * expansion
    layers = []
    if expansion > 1:
      layers += [
        ConvSame(channels, inner, 1, 1),
        norm(inner),
        nn.ReLU6(inplace=True),
      ]
    layers += [
      ConvSame(inner, inner, kernel_size, stride, groups=inner),
      norm(inner),
      nn.ReLU6(inplace=True),
      ConvSame(inner, features, 1, 1),
      norm(features),
    ]
    self.layers = nn.Sequential(*layers)
    self.is_residual = stride == 1 and channels == features
    self.drop_rate = drop_rate

  def forward(self, x: torch.Tensor) -> torch.Tensor:
    """Maps [B, C, H, W] to [B, F, ceil(H / stride), ceil(W / stride)]."""
    out = self.layers(x)
    if not self.is_residual:
      return out
    if self.training and self.drop_rate:
      keep = torch.rand(len(x), 1, 1, 1, device=x.device) >= self.drop_rate
      out = out * (keep.to(out.dtype) / (1 - self.drop_rate))
    return out + x


class EfficientNetLite(nn.Module):
  """See genre_flax/models/efficientnet_lite.py."""

  def __init__(self, spec: child.Spec):
    super().__init__()
    options = spec.options
    norm = functools.partial(nn.BatchNorm2d, eps=1e-3)
    self.is_frozen = options['batch_norm'] == 'frozen'
    self.backbone = nn.Sequential(
      collections.OrderedDict(
        _backbone(spec.stages, options['stochastic_depth_rate'], norm)
      )
    )
    self.head = nn.Sequential(
      nn.Dropout(options['dropout_rate']),
      nn.Linear(_TOP_FEATURES, spec.num_genres),
    )

  def train(self, mode: bool = True) -> 'EfficientNetLite':
    """Frozen BatchNorm uses its running statistics in training too."""
    super().train(mode)
    for module in self.modules():
      if self.is_frozen and isinstance(module, nn.BatchNorm2d):
        module.eval()
    return self

  def forward(self, x: torch.Tensor) -> torch.Tensor:
    """Maps images [B, 3, H, W] to logits [B, num_genres]."""
    return self.head(self.backbone(x).mean((2, 3)))


def _backbone(
  stages: Sequence[Sequence[int]], depth_rate, norm
) -> Iterator[tuple[str, nn.Module]]:
  """Names and layers; `stages` are of `efficientnet_lite.make_stages`."""
  yield 'stem', ConvSame(3, _STEM_FEATURES, 3, 2)
  yield 'stem_norm', norm(_STEM_FEATURES)
  yield 'stem_relu', nn.ReLU6(inplace=True)
  channels, number = _STEM_FEATURES, 0
  num_blocks = sum(stage[0] for stage in stages)
  for repeats, kernel_size, stride, expansion, features in stages:
    for position in range(repeats):
      block = Block(
        channels,
        features,
        kernel_size=kernel_size,
        stride=stride if position == 0 else 1,
        expansion=expansion,
        drop_rate=depth_rate * number / (num_blocks - 1),
        norm=norm,
      )
      yield f'block_{number:02d}', block
      channels, number = features, number + 1
  yield 'top', ConvSame(channels, _TOP_FEATURES, 1, 1)
  yield 'top_norm', norm(_TOP_FEATURES)
  yield 'top_relu', nn.ReLU6(inplace=True)
