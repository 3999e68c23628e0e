"""The pieces of the page, as HTML; whatever users gave is escaped in them."""

from collections.abc import Sequence
import pathlib
from typing import Any

from genre_flax.attribution import methods
from genre_flax.data import drawing
from genre_flax.demo import service as service_lib
from genre_flax.demo import uploads
from genre_flax.inference import predictions_csv
from genre_flax.reports import metric_titles
from genre_flax.reports.html import posters
from genre_flax.reports.html import report
from genre_flax.retrieval import neighbors

_TEMPLATES = pathlib.Path(__file__).parent / 'templates'
# Of the metrics of a split, those that the page shows.
_METRICS = (
  'hit_at_3',
  'recall_at_3',
  'precision_at_3',
  'mean_average_precision',
  'mean_roc_auc',
)
# Genres that are seen without asking for more.
_NUM_FIRST = 3


class Fragments:
  """Fills the templates, for one network."""

  def __init__(self, service: service_lib.Service):
    """Reads the templates.

    Args:
      service: that answers.
    """
    self._service = service
    self._genres = service.genres
    self._environment = report.environment(_TEMPLATES)
    self._environment.filters['jpeg'] = posters.data_uri

  def head(self, *, name: str) -> str:
    """The title of the page.

    Args:
      name: of the run.
    """
    return self._fill('head.html', name=name, genres=self._genres)

  def drop_zone(self) -> str:
    """Where posters are dropped, pasted and chosen."""
    return self._fill(
      'drop.html',
      limits=self._service.limits,
      max_mb=self._service.limits.max_bytes / 1e6,
      kept_minutes=uploads.KEPT_SECONDS // 60,
    )

  def examples(self, drawn: Sequence[service_lib.Upload]) -> str:
    """Posters to click on."""
    return self._fill(
      'examples.html',
      examples=[(each.name, each.path.read_bytes()) for each in drawn],
    )

  def genres(self, answer: service_lib.Answer, *, chosen: int) -> str:
    """The scores of all genres, as bars.

    Args:
      answer: of a poster that was read.
      chosen: the genre whose map is shown.
    """
    rows = [
      (genre, self._genres[genre], float(answer.scores[genre]))
      for genre in answer.order
    ]
    return self._fill(
      'genres.html',
      first=rows[:_NUM_FIRST],
      rest=rows[_NUM_FIRST:],
      chosen=chosen,
    )

  def poster(
    self,
    answer: service_lib.Answer,
    poster: service_lib.Poster,
    *,
    genre: int,
    seen: Any,
  ) -> str:
    """A poster, and where the network looked.

    Args:
      answer: of the poster.
      poster: of `Service.open`.
      genre: that the map is of.
      seen: of `Service.look`.
    """
    height, width = poster.picture.shape[:2]
    return self._fill(
      'poster.html',
      name=answer.upload.name,
      genre=self._genres[genre],
      score=float(answer.scores[genre]),
      picture=drawing.to_jpeg(poster.picture),
      map=drawing.to_jpeg(seen),
      height=height,
      width=width,
    )

  def batch(
    self, answers: Sequence[service_lib.Answer], *, chosen: int | None
  ) -> str:
    """Several posters to choose from, a table to take away, and problems.

    Args:
      answers: of a request.
      chosen: the one that is shown; None where none can be.

    Returns:
      HTML; '' for a single poster that was read.
    """
    readable = [answer for answer in answers if not answer.error]
    if len(answers) == 1 and readable:
      return ''
    table = predictions_csv.to_csv(
      [(answer.upload.name, answer.scores) for answer in readable],
      calibration=self._service.predictor.calibration,
    )
    return self._fill(
      'batch.html',
      posters=[
        (number, answer, self._top_three(answer))
        for number, answer in enumerate(answers)
        if not answer.error
      ],
      problems=[answer for answer in answers if answer.error],
      chosen=chosen,
      table=posters.data_uri(table, 'text/csv;charset=utf-8'),
      file_name=predictions_csv.FILE_NAME,
    )

  def _top_three(self, answer):
    return [
      (self._genres[genre], float(answer.scores[genre]))
      for genre in service_lib.top_three(answer)
    ]

  def problem(self, words: str) -> str:
    """What is wrong with a request."""
    return self._fill('problem.html', words=words)

  def similar(self, neighbours: Sequence[neighbors.Neighbor]) -> str:
    """Posters of the training split; '' for none."""
    if not neighbours:
      return ''
    return self._fill(
      'similar.html',
      total=len(self._service.index),
      neighbours=[
        (each, [self._genres[genre] for genre in each.genres])
        for each in neighbours
      ],
    )

  def about(
    self, *, name: str, metrics: dict[str, Any] | None, why_none_similar: str
  ) -> str:
    """What the network is, its scores, and what it is not good for.

    Args:
      name: of the run.
      metrics: of `split_metrics.make_report` with 'split' and 'step', or None.
      why_none_similar: why no similar posters are shown; '' where they are.
    """
    predictor = self._service.predictor
    return self._fill(
      'about.html',
      name=name,
      network=predictor.config.model.name,
      image_shape=predictor.image_shape,
      step=predictor.step,
      genres=self._genres,
      metrics=metrics,
      rows=[
        (title, meaning, metrics['metrics'][key])
        for key, title, meaning in metric_titles.METRICS
        if metrics and key in _METRICS and key in metrics['metrics']
      ],
      is_grad_cam=self._service.map_method == methods.METHODS[0],
      why_none_similar=why_none_similar,
    )

  def _fill(self, template: str, **values: Any) -> str:
    return self._environment.get_template(template).render(**values)


def read_template(name: str) -> str:
  """A file beside the templates: the style, or a script."""
  return (_TEMPLATES / name).read_text(encoding='utf-8')
