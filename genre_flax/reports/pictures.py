"""Pictures as they stand in pages: JPEG within the HTML."""

import base64
import io

import numpy as np
from PIL import Image

_QUALITY = 80


def to_jpeg(pixels: np.ndarray) -> bytes:
  """A small JPEG file's bytes, of uint8 [H, W, 3]."""
  encoded = io.BytesIO()
  Image.fromarray(pixels).save(encoded, 'JPEG', quality=_QUALITY, optimize=True)
  return encoded.getvalue()


def data_uri(content: bytes, kind: str = 'image/jpeg') -> str:
  """An address that holds a file itself.

  Args:
    content: of the file.
    kind: its media type.
  """
  return f'data:{kind};base64,{base64.b64encode(content).decode()}'
