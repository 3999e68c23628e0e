"""What happens when something is dropped or clicked on the page.

Pictures and tables are within the HTML, so that the page asks for no file.
"""

from collections.abc import Sequence
from typing import Any

from etils import epath
import gradio as gr

from genre_flax.datasets.posters import images
from genre_flax.demo import fragments as fragments_lib
from genre_flax.demo import service as service_lib
from genre_flax.demo import uploads as uploads_lib
from genre_flax.runtime import errors

# Characters of what a browser says, that are shown.
_MAX_TEXT = 200


class Page:
  """What the page does; each method makes what is shown afterwards."""

  def __init__(
    self,
    service: service_lib.Service,
    uploads: uploads_lib.Uploads,
    examples: Sequence[service_lib.Upload],
  ):
    """Wraps what answers.

    Args:
      service: that answers.
      uploads: where the files are that were given.
      examples: to click on.
    """
    self._service = service
    self._uploads = uploads
    self.examples = examples
    self.fragments = fragments_lib.Fragments(service)

  def dropped(self, event: gr.EventData) -> tuple[Any, ...]:
    """Names the genres of files that the browser has sent."""
    return self._answer(self._read_event(event))

  def example(self, event: gr.EventData) -> tuple[Any, ...]:
    """Names the genres of a drawn poster."""
    index = _index(event, len(self.examples))
    return self._answer([self.examples[index]])

  def poster_chosen(
    self, answers: Sequence[service_lib.Answer], event: gr.EventData
  ) -> tuple[Any, ...]:
    """Shows a poster of several."""
    number = _index(event, len(answers))
    return number, *self._show(answers[number])

  def genre_chosen(
    self,
    answers: Sequence[service_lib.Answer],
    number: int,
    event: gr.EventData,
  ) -> str:
    """Shows where the network looked for a genre."""
    genre = _index(event, len(self._service.genres))
    if not 0 <= number < len(answers) or answers[number].error:
      raise gr.Error('There is no poster.', print_exception=False)
    return self._explain(answers[number], genre)[0]

  def name_genres(self, posters: list[str] | None) -> list[dict[str, Any]]:
    """Names the genres of posters.

    For each poster a dictionary: 'poster', its name, and 'genres', a list of
    {'genre', 'score'} with the likeliest first; or 'error', why it cannot be
    read.
    """
    try:
      answers = self._service.name_genres(
        [self._find(path, epath.Path(path).name) for path in posters or ()]
      )
    except errors.InputError as e:
      raise gr.Error(str(e), print_exception=False) from e
    return [self._as_json(answer) for answer in answers]

  def _as_json(self, answer):
    if answer.error:
      return {'poster': answer.upload.name, 'error': answer.error}
    genres = [
      {
        'genre': self._service.genres[genre],
        'score': round(float(answer.scores[genre]), 6),
      }
      for genre in answer.order
    ]
    return {'poster': answer.upload.name, 'genres': genres}

  def _find(self, path: object, name: str, problem: str = ''):
    """An uploaded file, or what is told in place of it."""
    found = self._uploads.find(path)
    if found is None:
      problem = problem or 'it did not arrive, or is deleted; give it again'
    return service_lib.Upload(name, found, problem)

  def _read_event(self, event) -> list[service_lib.Upload]:
    """The files that a browser tells of, which may tell anything."""
    told = event._data.get('files') if isinstance(event._data, dict) else None
    files = told if isinstance(told, list) else []
    return [
      self._find(
        file.get('path'),
        str(file.get('name'))[:_MAX_TEXT],
        str(file.get('error') or '')[:_MAX_TEXT],
      )
      for file in files
      if isinstance(file, dict)
    ]

  def _answer(self, uploads: Sequence[service_lib.Upload]) -> tuple[Any, ...]:
    """(answers, the one shown, batch, poster, genres, similar)."""
    try:
      answers = self._service.name_genres(uploads)
    except errors.InputError as e:
      return [], 0, _shown(self.fragments.problem(str(e))), *_nothing()
    first = next((i for i, a in enumerate(answers) if not a.error), None)
    batch = _shown(self.fragments.batch(answers, chosen=first))
    if first is None:
      return answers, 0, batch, *_nothing()
    return answers, first, batch, *self._show(answers[first])

  def _show(self, answer):
    """(poster, genres, similar) of a poster."""
    if answer.error:
      return _nothing()
    genre = answer.order[0]
    html, poster = self._explain(answer, genre)
    neighbours = self._service.similar_to(poster) if poster is not None else []
    return (
      _shown(html),
      _shown(self.fragments.genres(answer, chosen=genre)),
      _shown(self.fragments.similar(neighbours)),
    )

  def _explain(self, answer, genre):
    """(HTML, the poster); the HTML says so where it is not there any more."""
    try:
      poster = self._service.open(answer.upload)
    except images.BadImageError:
      words = (
        'The poster is not here any more: posters are deleted after'
        f' {uploads_lib.KEPT_SECONDS // 60} minutes. Give it again.'
      )
      return self.fragments.problem(words), None
    seen = self._service.look(poster, genre)
    return (
      self.fragments.poster(answer, poster, genre=genre, seen=seen),
      poster,
    )


def _index(event: gr.EventData, number: int) -> int:
  """The index that a browser tells, which may be anything."""
  data = event._data
  index = data.get('index') if isinstance(data, dict) else None
  if not isinstance(index, int) or not 0 <= index < number:
    raise gr.Error('There is no such choice.', print_exception=False)
  return index


def _shown(html: str):
  return gr.update(value=html, visible=bool(html))


def _nothing():
  return _shown(''), _shown(''), _shown('')
