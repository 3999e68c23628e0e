"""A page that names genres in the browser, for any static host."""

from collections.abc import Mapping
import pathlib
from typing import Any

import huggingface_hub

from genre_flax.export import model_card
from genre_flax.export import ort_web
from genre_flax.export import static_files
from genre_flax.runtime import text

_PAGES = ('index.html', 'style.css', 'page.js', 'decode.js', 'resize.js')
_RUNTIME = 'onnxruntime'


def write(
  folder: pathlib.Path,
  description: Mapping[str, Any],
  *,
  page_runtime: pathlib.Path | None,
) -> None:
  """Writes the page, what runs the network, and what a hub reads of a page.

  Args:
    folder: to write to; model.onnx and config.json are to be beside the page.
    description: of `description.describe`.
    page_runtime: see `ort_web.files`.

  Raises:
    UserError: see `ort_web.files`.
  """
  runtime = folder / _RUNTIME
  runtime.mkdir()
  for name, content in ort_web.files(page_runtime).items():
    (runtime / name).write_bytes(content)
  static_files.copy('onnxruntime_license.txt', runtime / 'LICENSE.txt')
  for name in _PAGES:
    static_files.copy(name, folder / name)
  data = huggingface_hub.SpaceCardData(
    title='The genres of a poster', sdk='static'
  )
  name = text.for_markdown(description['network']['name'])
  (folder / model_card.FILE_NAME).write_text(
    f'---\n{data.to_yaml()}\n---\n\n'
    f'A page that names the genres of a film poster, by the network {name}, in'
    ' the browser: nothing is uploaded. Serve this folder by any static host,'
    ' or look at it by `python -m http.server`.\n',
    encoding='utf-8',
  )
