"""Names of parameters in Hugging Face's transformers.

For ViT, DeiT, DINOv2, ConvNeXt, and the vision towers of CLIP and SigLIP.
"""

from collections.abc import Mapping
import re

import numpy as np

from genre_flax.pretrained import timm_names

# Each file of transformers has one of these, and no file of timm has.
_MARKS = (
  'embeddings.patch_embedding.weight',
  'embeddings.patch_embeddings.weight',
  'embeddings.patch_embeddings.projection.weight',
)
# Prefix of a tower in a larger network.
_TOWER = re.compile(
  r'^(?:vit|deit|dinov2|dinov2_with_registers|convnext|convnextv2|vision_model)\.'
)
# Outside the tower, or used in training only.
_EXTRA = re.compile(
  r'text_model\.|text_projection|visual_projection|logit_(?:scale|bias)'
  r'|pooler\.|embeddings\.(?:mask_token|position_ids)'
)
# The first pattern that matches the start of a name is replaced.
_VIT = (
  (r'embeddings\.(?:cls_token|class_embedding)$', 'cls_token'),
  (r'embeddings\.register_tokens$', 'reg_token'),
  (r'embeddings\.position_embeddings?(?:\.weight)?$', 'pos_embed'),
  (r'embeddings\.patch_embedding(?:s\.projection)?\.', 'patch_embed.proj.'),
  (r'pre_layrnorm\.', 'norm_pre.'),
  (r'(?:post_)?layernorm\.', 'norm.'),
  (r'head\.probe$', 'attn_pool.latent'),
  (r'head\.attention\.out_proj\.', 'attn_pool.proj.'),
  (r'head\.attention\.in_proj_', 'attn_pool.qkv.'),
  (r'head\.layernorm\.', 'attn_pool.norm.'),
  (r'head\.mlp\.', 'attn_pool.mlp.'),
  (r'encoder\.layers?\.(\d+)\.', r'blocks.\1.'),
  (r'classifier\.', 'head.'),
)
_VIT_BLOCK = (
  (r'(?:layernorm_before|layer_norm1|norm1)\.', 'norm1.'),
  (r'(?:layernorm_after|layer_norm2|norm2)\.', 'norm2.'),
  (r'attention\.output\.dense\.|self_attn\.out_proj\.', 'attn.proj.'),
  (
    r'(?:attention\.attention|self_attn)\.(q|k|v)(?:uery|ey|alue|_proj)\.',
    r'attn.\1.',
  ),
  (r'(?:intermediate\.dense|mlp\.fc1)\.', 'mlp.fc1.'),
  (r'(?:output\.dense|mlp\.fc2)\.', 'mlp.fc2.'),
  (r'layer_scale(1|2)\.lambda1$', r'ls\1.gamma'),
)
_CONVNEXT = (
  (r'embeddings\.patch_embeddings\.', 'stem.0.'),
  (r'embeddings\.layernorm\.', 'stem.1.'),
  (r'encoder\.stages\.(\d+)\.downsampling_layer\.', r'stages.\1.downsample.'),
  (r'encoder\.stages\.(\d+)\.layers\.(\d+)\.', r'stages.\1.blocks.\2.'),
  (r'layernorm\.', 'head.norm.'),
  (r'classifier\.', 'head.fc.'),
)
_CONVNEXT_BLOCK = (
  (r'dwconv\.', 'conv_dw.'),
  (r'layernorm\.', 'norm.'),
  (r'pwconv(1|2)\.', r'mlp.fc\1.'),
  (r'layer_scale_parameter$', 'gamma'),
  (r'grn\.', 'mlp.grn.'),
)
_BLOCK = re.compile(r'(?:blocks\.\d+|stages\.\d+\.blocks\.\d+)\.')


def matches(arrays: Mapping[str, np.ndarray]) -> bool:
  """Whether the names are those of a vision tower of transformers."""
  return any(name.endswith(_MARKS) for name in arrays)


def to_timm(
  arrays: Mapping[str, np.ndarray],
) -> tuple[timm_names.Arrays, list[str]]:
  """Renames the arrays of a vision tower to timm's names; unknown names stay.

  Args:
    arrays: by transformers' names.

  Returns:
    The arrays in timm's shapes, and the names of removed arrays outside the
    vision tower, such as those of CLIP's text tower.
  """
  tower, block = _VIT, _VIT_BLOCK
  if any('encoder.stages.' in name for name in arrays):
    tower, block = _CONVNEXT, _CONVNEXT_BLOCK
  extra, renamed = [], {}
  for key, array in arrays.items():
    name = _TOWER.sub('', key)
    if _EXTRA.match(name):
      extra.append(key)
      continue
    name = _rename(name, tower)
    if prefix := _BLOCK.match(name):
      name = prefix[0] + _rename(name[prefix.end() :], block)
    if '.grn.' in name:
      array = array.reshape(-1)
    if name.startswith('attn_pool.qkv.'):
      for part, values in zip('qkv', np.split(array, 3), strict=True):
        renamed[name.replace('qkv', part)] = values
    else:
      renamed[name] = array
  return timm_names.join_attention(renamed), extra


def _rename(name, table):
  for pattern, replacement in table:
    renamed, count = re.subn(f'^(?:{pattern})', replacement, name)
    if count:
      return renamed
  return name
