"""The names that Google's vit_jax and big_vision give parameters, as timm's.

Their files are `.npz`: those of AugReg (Steiner et al., 2022) and of SigLIP
(Zhai et al., 2023). Layouts are Flax's, so that every array is turned.
"""

from collections.abc import Iterable, Mapping
import re

import numpy as np

from genre_flax.pretrained import timm_names

# Pixels of both enter between -1 and 1.
MEAN = STD = (0.5, 0.5, 0.5)
# Before all names, or before those of the pictures' tower.
_PREFIXES = ('params/img/', 'params/', 'opt/target/')
# All blocks in one array.
_SCANNED = 'Transformer/encoderblock/'
_WHOLE = {
  'cls': 'cls_token',
  'pos_embedding': 'pos_embed',
  'Transformer/posembed_input/pos_embedding': 'pos_embed',
  'MAPHead_0/probe': 'attn_pool.latent',
}
_BLOCK = r'^Transformer/encoderblock_(\d+)/'
_ATTENTION = r'MultiHeadDotProductAttention_\d/'
# Of each layer. vit_jax numbers all layers of a block on, big_vision those of a
# kind.
_LAYERS = (
  (r'^embedding$', 'patch_embed.proj'),
  (rf'{_BLOCK}LayerNorm_0$', r'blocks.\1.norm1'),
  (rf'{_BLOCK}LayerNorm_[12]$', r'blocks.\1.norm2'),
  (rf'{_BLOCK}{_ATTENTION}(q|k|v)(?:uery|ey|alue)$', r'blocks.\1.attn.\2'),
  (rf'{_BLOCK}{_ATTENTION}out$', r'blocks.\1.attn.proj'),
  (rf'{_BLOCK}MlpBlock_\d/Dense_0$', r'blocks.\1.mlp.fc1'),
  (rf'{_BLOCK}MlpBlock_\d/Dense_1$', r'blocks.\1.mlp.fc2'),
  (r'^Transformer/encoder_norm$', 'norm'),
  (rf'^MAPHead_0/{_ATTENTION}(q|k|v)(?:uery|ey|alue)$', r'attn_pool.\1'),
  (rf'^MAPHead_0/{_ATTENTION}out$', 'attn_pool.proj'),
  (r'^MAPHead_0/LayerNorm_0$', 'attn_pool.norm'),
  (r'^MAPHead_0/MlpBlock_0/Dense_0$', 'attn_pool.mlp.fc1'),
  (r'^MAPHead_0/MlpBlock_0/Dense_1$', 'attn_pool.mlp.fc2'),
  (r'^head$', 'head'),
)


def are_theirs(arrays: Mapping[str, np.ndarray]) -> bool:
  """Whether the names are those of a ViT of theirs."""
  return any(name.endswith('embedding/kernel') for name in arrays)


def beside(names: Iterable[str]) -> list[str]:
  """Those of texts, of an optimizer, and of the layer before a head.

  The first ViTs had one, which only their head's labels need.
  """
  names = list(names)
  prefix = _prefix(names)
  return [
    name
    for name in names
    if not name.startswith(prefix)
    or '/pre_logits/' in f'/{name.removeprefix(prefix)}'
  ]


def to_timm(arrays: Mapping[str, np.ndarray]) -> timm_names.Arrays:
  """The arrays of a ViT by timm's names.

  Args:
    arrays: by theirs. Those that are `beside` the ViT are left out; a name that
      is not known stays as it is, to be named where it is left over.

  Returns:
    The arrays, turned to PyTorch's layout.
  """
  prefix, left_out = _prefix(arrays), set(beside(arrays))
  theirs = {
    name.removeprefix(prefix): array
    for name, array in arrays.items()
    if name not in left_out
  }
  for name in [name for name in theirs if name.startswith(_SCANNED)]:
    rest = name.removeprefix(_SCANNED)
    for number, array in enumerate(theirs.pop(name)):
      theirs[f'Transformer/encoderblock_{number}/{rest}'] = array
  return timm_names.join_attention(
    dict(_as_timm(name, array) for name, array in theirs.items())
  )


def _prefix(names: Iterable[str]) -> str:
  """What stands before the names of the ViT."""
  return next((p for p in _PREFIXES if any(n.startswith(p) for n in names)), '')


def _as_timm(name: str, array: np.ndarray) -> tuple[str, np.ndarray]:
  """A parameter by timm's name, turned; as it is where it is not known."""
  if name in _WHOLE:
    return _WHOLE[name], array
  layer, _, leaf = name.rpartition('/')
  for pattern, replacement in _LAYERS:
    renamed, count = re.subn(pattern, replacement, layer)
    if count:
      ours = 'bias' if leaf == 'bias' else 'weight'
      return f'{renamed}.{ours}', _turn(array, layer, leaf)
  return name, array


def _turn(array, layer, leaf):
  if 'MultiHeadDotProductAttention' in layer:
    # [C, heads, C / heads], and of the output [heads, C / heads, C].
    if leaf == 'bias':
      return array.reshape(-1)
    shape = (-1, array.shape[-1]) if layer.endswith('out') else (len(array), -1)
    return array.reshape(shape).T
  if leaf != 'kernel':
    return array
  return timm_names.CONV.to_theirs(array) if array.ndim == 4 else array.T
