"""Our parameters by the names that timm gives them, there and back.

timm (Wightman, 2019) is where most published weights of ViT and ConvNeXt can be
had. Both directions are read off one table, so that what came in can go out.
"""

from collections.abc import Callable, Iterator, Mapping
from typing import Any, NamedTuple

import numpy as np

from genre_flax.models import convnext
from genre_flax.models import efficientnet_lite
from genre_flax.models import vit

Arrays = dict[str, np.ndarray]


class Form(NamedTuple):
  """How an array of PyTorch's is laid out for us, and back."""

  to_ours: Callable[[np.ndarray], np.ndarray]
  to_theirs: Callable[[np.ndarray], np.ndarray]


def _same(array):
  return array


SAME = Form(_same, _same)
# [out, in] and [in, out]; PyTorch has some of them as convolutions of 1 x 1.
DENSE = Form(lambda w: w.reshape(w.shape[0], -1).T, lambda k: k.T)
POINTWISE = Form(DENSE.to_ours, lambda k: k.T[:, :, None, None])
# [out, in / groups, height, width] and [height, width, in / groups, out].
CONV = Form(
  lambda w: w.transpose(2, 3, 1, 0), lambda k: k.transpose(3, 2, 0, 1)
)


def patches(side: int, channels: int) -> Form:
  """[out, C, side, side] and [side * side * C, out]."""

  def to_ours(weight):
    if weight.shape[1:] != (channels, side, side):
      raise ValueError(f'expected [..., {channels}, {side}, {side}]')
    return weight.transpose(2, 3, 1, 0).reshape(-1, weight.shape[0])

  return Form(
    to_ours,
    lambda k: k.reshape(side, side, -1, k.shape[1]).transpose(3, 2, 0, 1),
  )


class Entry(NamedTuple):
  """A parameter.

  Attributes:
    ours: its flat path, such as 'backbone/norm/scale'.
    theirs: timm's name, such as 'norm.weight'.
    form: how they differ.
    collection: of ours, 'params' or 'batch_stats'.
  """

  ours: str
  theirs: str
  form: Form = SAME
  collection: str = 'params'


def _dense(ours: str, theirs: str, form: Form = DENSE) -> Iterator[Entry]:
  yield Entry(f'{ours}/kernel', f'{theirs}.weight', form)
  yield Entry(f'{ours}/bias', f'{theirs}.bias')


def _norm(ours: str, theirs: str) -> Iterator[Entry]:
  yield Entry(f'{ours}/scale', f'{theirs}.weight')
  yield Entry(f'{ours}/bias', f'{theirs}.bias')


def _batch_norm(ours: str, theirs: str) -> Iterator[Entry]:
  yield from _norm(ours, theirs)
  yield Entry(f'{ours}/mean', f'{theirs}.running_mean', SAME, 'batch_stats')
  yield Entry(f'{ours}/var', f'{theirs}.running_var', SAME, 'batch_stats')


def _conv_norm(ours: str, theirs: str, norm: str) -> Iterator[Entry]:
  """A convolution, and the BatchNorm after it."""
  yield Entry(f'{ours}/kernel', f'{theirs}.weight', CONV)
  yield from _batch_norm(f'{ours}_norm', norm)


def of_efficientnet_lite(options: Mapping[str, Any]) -> Iterator[Entry]:
  """The parameters and statistics of an EfficientNet-Lite, but for `head_norm`.

  Args:
    options: `config.model.efficientnet_lite`.
  """
  yield from _conv_norm('backbone/stem', 'conv_stem', 'bn1')
  number = 0
  for stage, kind in enumerate(
    efficientnet_lite.make_stages(options['variant'])
  ):
    for position in range(kind.num_blocks):
      ours = f'backbone/block_{number:02d}'
      theirs = f'blocks.{stage}.{position}'
      # What comes before the depthwise convolution, and after it.
      before, after = f'{theirs}.conv_pw', f'{theirs}.conv_pwl'
      norms = [f'{theirs}.bn{n}' for n in (1, 2, 3)]
      if kind.expansion > 1:
        yield from _conv_norm(f'{ours}/expand', before, norms.pop(0))
      else:
        after = before
      yield from _conv_norm(
        f'{ours}/depthwise', f'{theirs}.conv_dw', norms.pop(0)
      )
      yield from _conv_norm(f'{ours}/project', after, norms.pop(0))
      number += 1
  yield from _conv_norm('backbone/top', 'conv_head', 'bn2')
  yield from _dense('head', 'classifier')


def of_vit(options: Mapping[str, Any]) -> Iterator[Entry]:
  """The parameters of a ViT, but for its position and its tokens.

  Args:
    options: `config.model.vit`.
  """
  yield from _dense(
    'backbone/embed/dense', 'patch_embed.proj', patches(options['patch'], 3)
  )
  if options['pre_norm']:
    yield from _norm('backbone/pre_norm', 'norm_pre')
  for number in range(vit.SIZES[options['size']].depth):
    ours, theirs = f'backbone/block_{number:02d}', f'blocks.{number}'
    yield from _norm(f'{ours}/attention_norm', f'{theirs}.norm1')
    yield from _dense(f'{ours}/attention/qkv', f'{theirs}.attn.qkv')
    yield from _dense(f'{ours}/attention/out', f'{theirs}.attn.proj')
    yield from _norm(f'{ours}/mlp_norm', f'{theirs}.norm2')
    yield from _dense(f'{ours}/mlp/expand', f'{theirs}.mlp.fc1')
    yield from _dense(f'{ours}/mlp/project', f'{theirs}.mlp.fc2')
    if options['layer_scale']:
      yield Entry(f'{ours}/attention_scale/scale', f'{theirs}.ls1.gamma')
      yield Entry(f'{ours}/mlp_scale/scale', f'{theirs}.ls2.gamma')
  yield from _norm('backbone/norm', 'norm')
  if options['pool'] == 'attention':
    ours, theirs = 'backbone/pool', 'attn_pool'
    yield Entry(
      f'{ours}/probe',
      f'{theirs}.latent',
      Form(lambda w: w.reshape(1, -1), lambda p: p[None]),
    )
    yield from _dense(f'{ours}/q', f'{theirs}.q')
    yield from _dense(f'{ours}/kv', f'{theirs}.kv')
    yield from _dense(f'{ours}/out', f'{theirs}.proj')
    yield from _norm(f'{ours}/norm', f'{theirs}.norm')
    yield from _dense(f'{ours}/mlp/expand', f'{theirs}.mlp.fc1')
    yield from _dense(f'{ours}/mlp/project', f'{theirs}.mlp.fc2')
  yield from _dense('head', 'head')


def of_convnext(options: Mapping[str, Any]) -> Iterator[Entry]:
  """The parameters of a ConvNeXt.

  Args:
    options: `config.model.convnext`.
  """
  yield from _dense('backbone/stem/dense', 'stem.0', patches(convnext.STEM, 3))
  yield from _norm('backbone/stem_norm', 'stem.1')
  # The small ones were published with convolutions of 1 x 1 in their place.
  is_small = options['size'] in ('atto', 'femto', 'pico', 'nano')
  form = POINTWISE if is_small else DENSE
  size = convnext.SIZES[options['size']]
  for stage, depth in enumerate(size.depths):
    if stage:
      form_down = patches(2, size.widths[stage - 1])
      ours, theirs = f'backbone/down_{stage}', f'stages.{stage}.downsample'
      yield from _norm(f'{ours}_norm', f'{theirs}.0')
      yield from _dense(f'{ours}/dense', f'{theirs}.1', form_down)
    for number in range(depth):
      ours = f'backbone/stage_{stage}_block_{number:02d}'
      theirs = f'stages.{stage}.blocks.{number}'
      yield Entry(f'{ours}/depthwise/kernel', f'{theirs}.conv_dw.weight', CONV)
      yield Entry(f'{ours}/depthwise_bias', f'{theirs}.conv_dw.bias')
      yield from _norm(f'{ours}/norm', f'{theirs}.norm')
      yield from _dense(f'{ours}/expand', f'{theirs}.mlp.fc1', form)
      yield from _dense(f'{ours}/project', f'{theirs}.mlp.fc2', form)
      if options['version'] == 1:
        yield Entry(f'{ours}/scale/scale', f'{theirs}.gamma')
      else:
        yield Entry(f'{ours}/response_norm/scale', f'{theirs}.mlp.grn.weight')
        yield Entry(f'{ours}/response_norm/bias', f'{theirs}.mlp.grn.bias')
  yield from _norm('backbone/norm', 'head.norm')
  yield from _dense('head', 'head.fc')


def join_attention(arrays: Mapping[str, np.ndarray]) -> Arrays:
  """Queries, keys and values, each alone, put together as timm has them.

  Args:
    arrays: by timm's names, but for 'blocks.0.attn.q.weight' and its like, and
      'attn_pool.k.weight' and its like.

  Returns:
    Those as 'blocks.0.attn.qkv.weight' and 'attn_pool.kv.weight', the others as
    they are; so is what lacks a part.
  """
  joint = dict(arrays)
  for name in arrays:
    layer, is_key, leaf = name.rpartition('.k.')
    together = 'kv' if layer == 'attn_pool' else 'qkv'
    parts = [f'{layer}.{part}.{leaf}' for part in together]
    if is_key and all(part in joint for part in parts):
      joint[f'{layer}.{together}.{leaf}'] = np.concatenate(
        [joint.pop(part) for part in parts]
      )
  return joint
