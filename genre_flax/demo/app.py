"""The page in Gradio: its parts, what moves them, its colours."""

import dataclasses
from typing import Any

import gradio as gr

from genre_flax.demo import actions
from genre_flax.demo import fragments as fragments_lib

TITLE = 'What genre is this poster?'
# The function for programs, as Gradio's clients call it.
API_NAME = 'name_genres'
# Requests that are worked on at once; the network takes turns among them.
_NUM_AT_ONCE = 4
# Of those whose browser is gone, the posters' scores are kept so long.
_STATE_SECONDS = 3600
_FONTS = ('system-ui', '-apple-system', 'Segoe UI', 'Roboto', 'sans-serif')
_MONO = ('ui-monospace', 'Consolas', 'monospace')


@dataclasses.dataclass(frozen=True)
class Words:
  """What the page says that does not change.

  Attributes:
    name: of the run.
    metrics: of it, or None.
    why_none_similar: why no similar posters are shown, or ''.
  """

  name: str
  metrics: dict[str, Any] | None
  why_none_similar: str


def build(page: actions.Page, words: Words, *, max_queue: int) -> gr.Blocks:
  """Lays the page out.

  Args:
    page: what it does.
    words: what it says.
    max_queue: requests that wait at most.

  Returns:
    The page, to be mounted.
  """
  fragments = page.fragments
  with gr.Blocks(
    title=TITLE, analytics_enabled=False, fill_width=True
  ) as blocks:
    answers = gr.State([], time_to_live=_STATE_SECONDS)
    number = gr.State(0, time_to_live=_STATE_SECONDS)
    _html(fragments.head(name=words.name))
    drop = _html(fragments.drop_zone(), js_on_load=_script('drop.js'))
    examples = _html(
      fragments.examples(page.examples), js_on_load=_choose('example')
    )
    batch = _html(js_on_load=_choose('poster'), visible=False)
    with gr.Row(elem_classes='gf-result', equal_height=False):
      poster = _html(visible=False)
      with gr.Column(elem_classes='gf-column'):
        genres = _html(js_on_load=_choose('genre'), visible=False)
        similar = _html(visible=False)
    _html(
      fragments.about(
        name=words.name,
        metrics=words.metrics,
        why_none_similar=words.why_none_similar,
      )
    )
    one = [poster, genres, similar]
    shown = [answers, number, batch, *one]
    _when(drop.upload, page.dropped, None, shown)
    _when(examples.select, page.example, None, shown)
    _when(batch.select, page.poster_chosen, answers, [number, *one])
    _when(genres.select, page.genre_chosen, [answers, number], poster)
    _add_api(page)
  blocks.queue(max_size=max_queue, default_concurrency_limit=_NUM_AT_ONCE)
  return blocks


def _html(value='', *, js_on_load=None, visible=True) -> gr.HTML:
  return gr.HTML(
    value, js_on_load=js_on_load, visible=visible, apply_default_css=False
  )


def _choose(key: str) -> str:
  return _script('choose.js').replace('KEY', key)


def _script(name: str) -> str:
  return fragments_lib.read_template(name)


def _when(event, function, inputs, outputs) -> None:
  """What happens in the page is not for programs to call."""
  event(
    function,
    inputs,
    outputs,
    api_visibility='private',
    concurrency_id='network',
    concurrency_limit=_NUM_AT_ONCE,
    show_progress='minimal',
  )


def _add_api(page: actions.Page) -> None:
  """The function for programs, whose inputs and outputs nobody sees."""
  posters = gr.File(file_count='multiple', label='posters', visible=False)
  answers = gr.JSON(label='answers', visible=False)
  gr.Button(visible=False).click(
    page.name_genres,
    posters,
    answers,
    api_name=API_NAME,
    concurrency_id='network',
    concurrency_limit=_NUM_AT_ONCE,
  )


def theme() -> gr.themes.Base:
  """Fonts of the system, which are not loaded from anywhere, and colours."""
  paper, raised, ink, main = '#faf9f6', '#ffffff', '#232328', '#5a48c8'
  dark_paper, dark_raised, light_ink = '#17171b', '#212127', '#ececf0'
  return gr.themes.Base(font=_FONTS, font_mono=_MONO).set(
    body_background_fill=paper,
    body_background_fill_dark=dark_paper,
    background_fill_primary=paper,
    background_fill_primary_dark=dark_paper,
    background_fill_secondary=paper,
    background_fill_secondary_dark=dark_paper,
    block_background_fill=raised,
    block_background_fill_dark=dark_raised,
    body_text_color=ink,
    body_text_color_dark=light_ink,
    button_primary_background_fill=main,
    button_primary_background_fill_dark=main,
    button_primary_background_fill_hover=main,
    button_primary_background_fill_hover_dark=main,
  )
