"""Names and layouts of parameters in timm (Wightman, 2019).

Most published weights of ViT and ConvNeXt have timm's names. One table serves
both directions of the conversion.
"""

from collections.abc import Callable, Iterator, Mapping
from typing import Any, NamedTuple

import numpy as np

from genre_flax.models import convnext
from genre_flax.models import efficientnet_lite
from genre_flax.models import vit

Arrays = dict[str, np.ndarray]


class Layout(NamedTuple):
  """Conversion of an array from PyTorch's layout, and its inverse."""

  from_torch: Callable[[np.ndarray], np.ndarray]
  to_torch: Callable[[np.ndarray], np.ndarray]


SAME = Layout(lambda array: array, lambda array: array)
# [out, in] and [in, out]. PyTorch has some as convolutions of 1 x 1.
DENSE = Layout(lambda w: w.reshape(w.shape[0], -1).T, lambda k: k.T)
POINTWISE = Layout(DENSE.from_torch, lambda k: k.T[:, :, None, None])
# [out, in / groups, height, width] and [height, width, in / groups, out].
CONV = Layout(
  lambda w: w.transpose(2, 3, 1, 0), lambda k: k.transpose(3, 2, 0, 1)
)
# [1, 1, C] and [1, C].
PROBE = Layout(lambda w: w.reshape(1, -1), lambda p: p[None])


def patches(side: int, channels: int) -> Layout:
  """[out, C, side, side] and [side * side * C, out]."""

  def from_torch(weight):
    if weight.shape[1:] != (channels, side, side):
      raise ValueError(f'expected [..., {channels}, {side}, {side}]')
    return CONV.from_torch(weight).reshape(-1, weight.shape[0])

  def to_torch(kernel):
    return CONV.to_torch(kernel.reshape(side, side, -1, kernel.shape[1]))

  return Layout(from_torch, to_torch)


class Entry(NamedTuple):
  """A parameter of a network.

  Attributes:
    path: flat, such as 'backbone/norm/scale'.
    timm_name: such as 'norm.weight'.
    layout: of the array.
    collection: 'params' or 'batch_stats'.
  """

  path: str
  timm_name: str
  layout: Layout = SAME
  collection: str = 'params'


def _dense(path: str, timm_name: str, layout=DENSE) -> Iterator[Entry]:
  yield Entry(f'{path}/kernel', f'{timm_name}.weight', layout)
  yield Entry(f'{path}/bias', f'{timm_name}.bias')


def _norm(path: str, timm_name: str) -> Iterator[Entry]:
  yield Entry(f'{path}/scale', f'{timm_name}.weight')
  yield Entry(f'{path}/bias', f'{timm_name}.bias')


def _mlp(path: str, timm_name: str, layout=DENSE) -> Iterator[Entry]:
  yield from _dense(f'{path}/expand', f'{timm_name}.fc1', layout)
  yield from _dense(f'{path}/project', f'{timm_name}.fc2', layout)


def _conv_norm(path: str, timm_name: str, norm: str) -> Iterator[Entry]:
  """A convolution and the BatchNorm after it."""
  yield Entry(f'{path}/kernel', f'{timm_name}.weight', CONV)
  yield from _norm(f'{path}_norm', norm)
  for stat in ('mean', 'var'):
    yield Entry(
      f'{path}_norm/{stat}', f'{norm}.running_{stat}', SAME, 'batch_stats'
    )


def efficientnet_lite_entries(options: Mapping[str, Any]) -> Iterator[Entry]:
  """Parameters and statistics of an EfficientNet-Lite but for `head_norm`."""
  yield from _conv_norm('backbone/stem', 'conv_stem', 'bn1')
  number = 0
  stages = efficientnet_lite.make_stages(options['variant'])
  for stage, kind in enumerate(stages):
    layers = {'depthwise': 'conv_dw', 'project': 'conv_pw'}
    if kind.expansion > 1:
      layers = {'expand': 'conv_pw', **layers, 'project': 'conv_pwl'}
    for position in range(kind.num_blocks):
      path = f'backbone/block_{number:02d}'
      block = f'blocks.{stage}.{position}'
      for n, (layer, name) in enumerate(layers.items(), start=1):
        yield from _conv_norm(
          f'{path}/{layer}', f'{block}.{name}', f'{block}.bn{n}'
        )
      number += 1
  yield from _conv_norm('backbone/top', 'conv_head', 'bn2')
  yield from _dense('head', 'classifier')


def vit_entries(options: Mapping[str, Any]) -> Iterator[Entry]:
  """The parameters of a ViT but for its positions and tokens."""
  yield from _dense(
    'backbone/embed/dense', 'patch_embed.proj', patches(options['patch'], 3)
  )
  if options['pre_norm']:
    yield from _norm('backbone/pre_norm', 'norm_pre')
  for number in range(vit.SIZES[options['size']].depth):
    path, block = f'backbone/block_{number:02d}', f'blocks.{number}'
    yield from _norm(f'{path}/attention_norm', f'{block}.norm1')
    yield from _dense(f'{path}/attention/qkv', f'{block}.attn.qkv')
    yield from _dense(f'{path}/attention/out', f'{block}.attn.proj')
    yield from _norm(f'{path}/mlp_norm', f'{block}.norm2')
    yield from _mlp(f'{path}/mlp', f'{block}.mlp')
    if options['layer_scale']:
      yield Entry(f'{path}/attention_scale/scale', f'{block}.ls1.gamma')
      yield Entry(f'{path}/mlp_scale/scale', f'{block}.ls2.gamma')
  yield from _norm('backbone/norm', 'norm')
  if options['pool'] == 'attention':
    yield Entry('backbone/pool/probe', 'attn_pool.latent', PROBE)
    for layer, name in (('q', 'q'), ('kv', 'kv'), ('out', 'proj')):
      yield from _dense(f'backbone/pool/{layer}', f'attn_pool.{name}')
    yield from _norm('backbone/pool/norm', 'attn_pool.norm')
    yield from _mlp('backbone/pool/mlp', 'attn_pool.mlp')
  yield from _dense('head', 'head')


def convnext_entries(options: Mapping[str, Any]) -> Iterator[Entry]:
  """The parameters of a ConvNeXt."""
  yield from _dense('backbone/stem/dense', 'stem.0', patches(convnext.STEM, 3))
  yield from _norm('backbone/stem_norm', 'stem.1')
  # timm builds the small networks with convolutions of 1 x 1.
  is_small = options['size'] in ('atto', 'femto', 'pico', 'nano')
  layout = POINTWISE if is_small else DENSE
  size = convnext.SIZES[options['size']]
  for stage, depth in enumerate(size.depths):
    if stage:
      path, name = f'backbone/down_{stage}', f'stages.{stage}.downsample'
      yield from _norm(f'{path}_norm', f'{name}.0')
      yield from _dense(
        f'{path}/dense', f'{name}.1', patches(2, size.widths[stage - 1])
      )
    for number in range(depth):
      path = f'backbone/stage_{stage}_block_{number:02d}'
      block = f'stages.{stage}.blocks.{number}'
      yield Entry(f'{path}/depthwise/kernel', f'{block}.conv_dw.weight', CONV)
      yield Entry(f'{path}/depthwise_bias', f'{block}.conv_dw.bias')
      yield from _norm(f'{path}/norm', f'{block}.norm')
      yield from _mlp(path, f'{block}.mlp', layout)
      if options['version'] == 1:
        yield Entry(f'{path}/scale/scale', f'{block}.gamma')
      else:
        yield from _norm(f'{path}/response_norm', f'{block}.mlp.grn')
  yield from _norm('backbone/norm', 'head.norm')
  yield from _dense('head', 'head.fc')


def join_attention(arrays: Mapping[str, np.ndarray]) -> Arrays:
  """Concatenates queries, keys and values, as timm stores them.

  Args:
    arrays: by timm's names, except for names such as 'blocks.0.attn.q.weight'
      and 'attn_pool.k.weight'.

  Returns:
    The arrays with 'blocks.0.attn.qkv.weight' and 'attn_pool.kv.weight'; an
    incomplete group stays.
  """
  joint = dict(arrays)
  for name in arrays:
    layer, is_key, leaf = name.rpartition('.k.')
    group = 'kv' if layer == 'attn_pool' else 'qkv'
    parts = [f'{layer}.{part}.{leaf}' for part in group]
    if is_key and all(part in joint for part in parts):
      joint[f'{layer}.{group}.{leaf}'] = np.concatenate(
        [joint.pop(part) for part in parts]
      )
  return joint
