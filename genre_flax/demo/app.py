"""The Gradio interface of the demo."""

from collections.abc import Sequence
import html
import pathlib
import tempfile
from typing import Any

from etils import epath
import gradio as gr
import numpy as np
from starlette import middleware

from genre_flax.datasets.posters import images
from genre_flax.datasets.posters import synthetic
from genre_flax.demo import limits
from genre_flax.demo import service as service_lib
from genre_flax.inference import predictions_csv
from genre_flax.reports import split_metrics
from genre_flax.runtime import errors
from genre_flax.runtime import text

TITLE = 'Film genres from posters'
_SEED, _NUM_EXAMPLES = 2027, 6
# Requests use the network one at a time. Files arrive as Gradio's dictionaries,
# since its own preprocessing decodes images, and its errors hide the reason.
_EVENT = dict(concurrency_id='network', concurrency_limit=1, preprocess=False)
_PRIVATE = {'api_visibility': 'private', **_EVENT}
# By default the gallery crops posters to squares, and captions to one line.
_CSS = """
.nearest .thumbnail-item { aspect-ratio: 2 / 3; }
.nearest .grid-wrap { min-height: 0; }
.nearest .caption-label { white-space: normal; }
"""

# Gradio's dictionary of an uploaded file; Gradio checks that `path` is one.
File = dict[str, Any]


class Handlers:
  """The functions behind the interface."""

  def __init__(
    self,
    service: service_lib.Service,
    *,
    max_files: int,
    upload_dir: pathlib.Path,
  ):
    """CSV files are written to Gradio's `upload_dir`."""
    self._service = service
    self._max_files = max_files
    self._upload_dir = upload_dir
    self.genres = [text.printable(g) for g in service.predictor.genres]
    self.has_words = service.predictor.text is not None

  def show_poster(self, file: File | None) -> tuple[Any, ...]:
    """Top-3 predictions, all scores, best genre, map, words and neighbors."""
    if file is None:
      return (None,) * 6
    path = epath.Path(file['path'])
    [result] = self._service.predict([path])
    if result.error is not None:
      _warn(result.error)
      return (None,) * 6
    scores = result.scores
    neighbors = []
    for each in self._service.nearest(path):
      genres = ', '.join(self.genres[i] for i in each.genres) or 'no genre'
      caption = f'{genres} ({each.similarity:.2f}) {text.printable(each.id)}'
      neighbors.append((images.open_rgb(each.thumbnail)[0], caption))
    by_genre = dict(zip(self.genres, scores, strict=True))
    best = int(scores.argmax())
    map_, words = self.show_map(file, best)
    return by_genre, by_genre, best, map_, words, neighbors

  def show_map(self, file: File | None, genre: Any) -> tuple[Any, Any]:
    """The attribution map of a genre, and the words for and against it."""
    if file is None or genre not in range(len(self.genres)):
      return None, None
    path = epath.Path(file['path'])
    try:
      map_ = self._service.attribution_map(path, genre)
      return map_, self._service.words(path, genre)
    except images.BadImageError as e:
      return _warn(e), None

  def show_batch(self, files: Sequence[File] | None) -> tuple[Any, Any]:
    """A table of top-3 predictions, and a CSV file of all scores."""
    if not files:
      return (gr.update(value=None, visible=False),) * 2
    rows, scored = [], []
    for name, result in self._predict(files):
      if result.error is not None:
        shown = f'Error: {text.printable(result.error)}'
      else:
        scores = result.scores
        scored.append((name, scores))
        top = _rank(scores)[:3]
        shown = ', '.join(f'{self.genres[i]} {scores[i]:.2f}' for i in top)
      rows.append([text.printable(name), shown])
    folder = pathlib.Path(tempfile.mkdtemp(dir=self._upload_dir))
    path = folder / predictions_csv.FILE_NAME
    calibration = self._service.predictor.calibration
    path.write_bytes(predictions_csv.to_csv(scored, calibration=calibration))
    return tuple(gr.update(value=v, visible=True) for v in (rows, str(path)))

  def predict(self, posters: Sequence[File] | None) -> list[dict[str, Any]]:
    """Scores posters.

    Returns a dictionary per poster: 'poster', its file name, and 'genres', a
    list of {'genre', 'score'} by descending score; or 'error'.
    """
    genres, results = self._service.predictor.genres, []
    for name, result in self._predict(posters or []):
      values = {'poster': name}
      if result.error is not None:
        values['error'] = result.error
      else:
        values['genres'] = [
          {'genre': genres[i], 'score': round(float(result.scores[i]), 6)}
          for i in _rank(result.scores)
        ]
      results.append(values)
    return results

  def _predict(self, files) -> list[tuple[str, Any]]:
    """Pairs of a file name and its result."""
    if len(files) > self._max_files:
      raise gr.Error(
        f'{len(files)} posters; at most {self._max_files} per request.',
        print_exception=False,
      )
    paths = [epath.Path(file['path']) for file in files]
    names = [
      file['orig_name'] or epath.Path(file['path']).name for file in files
    ]
    return list(zip(names, self._service.predict(paths), strict=True))


def _rank(scores) -> list[int]:
  return np.argsort(-scores, kind='stable').tolist()


def _warn(error) -> None:
  # Gradio renders HTML in messages.
  gr.Warning(html.escape(text.printable(str(error))))


def build(
  handlers: Handlers, *, examples: pathlib.Path, about: str
) -> gr.Blocks:
  """Lays out the interface."""
  keep = (60, limits.KEEP_SECONDS)
  with gr.Blocks(
    title=TITLE, analytics_enabled=False, delete_cache=keep
  ) as demo:
    gr.Markdown(f'# {TITLE}')
    with gr.Tab('Poster'):
      _add_poster_tab(handlers, examples)
    with gr.Tab('Batch'):
      _add_batch_tab(handlers)
    with gr.Accordion('About this network', open=False):
      gr.Markdown(about)
    # The API for programs; its inputs and outputs are not displayed.
    posters = gr.File(file_count='multiple', label='posters', visible=False)
    results = gr.JSON(label='predictions', visible=False)
    gr.Button(visible=False).click(
      handlers.predict, posters, results, api_name='predict', **_EVENT
    )
  return demo


def _add_poster_tab(handlers, examples) -> None:
  with gr.Row():
    with gr.Column():
      poster = gr.Image(
        label='Poster',
        sources=['upload', 'clipboard'],
        height=480,
        buttons=[],
      )
      gr.Examples(
        _draw_examples(examples),
        poster,
        label='Synthetic posters',
        api_visibility='private',
      )
    with gr.Column():
      map_ = gr.Image(
        label='Attribution map', height=480, buttons=['fullscreen']
      )
      choices = [(name, i) for i, name in enumerate(handlers.genres)]
      genre = gr.Dropdown(choices, value=None, label='Genre of the map')
      words = gr.HighlightedText(
        label='Words for (red) and against (blue) the genre',
        visible=handlers.has_words,
        interactive=False,
      )
    with gr.Column():
      top = gr.Label(num_top_classes=3, label='Top-3 predictions')
      with gr.Accordion('All scores', open=False):
        scores = gr.Label(show_label=False, show_heading=False)
  neighbors = gr.Gallery(
    label='Nearest training posters',
    columns=service_lib.NUM_NEIGHBORS,
    height='auto',
    object_fit='contain',
    buttons=[],
    elem_classes='nearest',
  )
  outputs = [top, scores, genre, map_, words, neighbors]
  poster.change(handlers.show_poster, poster, outputs, **_PRIVATE)
  genre.input(handlers.show_map, [poster, genre], [map_, words], **_PRIVATE)


def _add_batch_tab(handlers) -> None:
  files = gr.File(
    label='Posters', file_count='multiple', file_types=['image'], height=200
  )
  table = gr.Dataframe(
    headers=['Poster', 'Top-3 predictions'],
    wrap=True,
    column_widths=['40%', '60%'],
    visible=False,
  )
  download = gr.DownloadButton('Download all scores (CSV)', visible=False)
  outputs = [table, download]
  files.change(handlers.show_batch, files, outputs, **_PRIVATE)


def _draw_examples(folder: pathlib.Path) -> list[list[str]]:
  """Rows of `gr.Examples`: synthetic posters that no training uses."""
  rows = []
  for i in range(_NUM_EXAMPLES):
    image, _ = synthetic.draw_poster(i, seed=_SEED)
    path = folder / f'example{i + 1}.jpg'
    path.write_bytes(images.to_jpeg(image))
    rows.append([str(path)])
  return rows


def describe(
  service: service_lib.Service, *, name: str, metrics: dict[str, Any] | None
) -> str:
  """A network, its metrics and its limits, as Markdown."""
  predictor = service.predictor
  model = text.for_markdown(predictor.config.model.name)
  height, width = predictor.image_shape
  has_text = predictor.text is not None
  genres = ', '.join(text.for_markdown(genre) for genre in predictor.genres)
  parts = [
    f'**{text.for_markdown(name)}**: {model}, images of {height} × {width}'
    f' pixels, checkpoint of step {predictor.step:,}. Genres: {genres}.',
    f'The input is the image{" and the text on it" * has_text}. Predictions are'
    ' often wrong, mostly for rare genres. Scores are calibrated on posters'
    ' like those of the training, and mean little for others. Attribution maps'
    f' ({service.explainer.method.replace("_", "-")}) are coarse, and do not'
    ' explain a prediction.',
  ]
  if metrics is not None:
    table = split_metrics.format_metrics(metrics).replace('`', '')
    parts.append(
      f'Metrics on {metrics["num_examples"]:,} posters of the split'
      f' {text.for_markdown(metrics["split"])}, at step {metrics["step"]:,}:'
      f'\n\n```text\n{table}\n```'
    )
  return '\n\n'.join(parts)


def launch(
  demo: gr.Blocks, *, upload_dir: pathlib.Path, max_queue: int, **options: Any
) -> None:
  """Starts the server; `demo.block_thread()` waits for its end.

  `options` are those of `gr.Blocks.launch`: address, login, `max_file_size`.

  Raises:
    BusyError: the address is in use, or not one of this machine.
  """
  demo.queue(max_size=max_queue, api_open=False)
  guard = middleware.Middleware(limits.LimitsMiddleware, upload_dir=upload_dir)
  try:
    demo.launch(
      **options,
      app_kwargs={'middleware': [guard], 'openapi_url': None},
      theme=gr.themes.Default(font=('system-ui', 'sans-serif')),
      css=_CSS,
      share=False,
      enable_monitoring=False,
      run_history=False,
      footer_links=[],
      quiet=True,
      prevent_thread_lock=True,
    )
  except OSError as e:
    raise errors.BusyError(
      f'Cannot listen on port {options["server_port"]} of'
      f' {options["server_name"]}; choose another --port or --host.'
    ) from e
