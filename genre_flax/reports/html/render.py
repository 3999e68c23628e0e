"""Fills the templates, and writes the page."""

import base64
from collections.abc import Sequence
import datetime
import hashlib
import math
import pathlib
import sys

from etils import epath
import markupsafe
import tqdm

from genre_flax.reports import templates
from genre_flax.reports.html import comparison
from genre_flax.reports.html import gallery
from genre_flax.reports.html import sources as sources_lib
from genre_flax.reports.html import views
from genre_flax.runtime import files
from genre_flax.runtime import machine

FILE_NAME = 'report.html'
_TEMPLATES = pathlib.Path(__file__).parent / 'templates'


def write(
  sources: Sequence[sources_lib.Source],
  path: epath.Path,
  *,
  bootstrap_samples: int,
) -> epath.Path:
  """Writes the report of some runs: one file that needs no other.

  Args:
    sources: at least one; with several, the others are compared to the first.
    path: of the file; its folder is made where it does not exist.
    bootstrap_samples: resamples behind the intervals; 0 for none.

  Returns:
    The path.

  Raises:
    InputError: the runs cannot be compared.
    StorageError: the file cannot be written.
  """
  scored = [source.scored for source in sources if source.scored is not None]
  is_comparing = len(sources) > 1 and len(scored) == len(sources)
  if is_comparing:
    comparison.check_comparable(scored)
  with tqdm.tqdm(
    total=len(sources) * views.NUM_STEPS + len(sources) - 1,
    desc='Report',
    unit=' parts',
    disable=not sys.stderr.isatty(),
  ) as bar:

    def progress(done):
      bar.set_postfix_str(done)
      bar.update()

    runs = [
      views.make_run_view(
        source,
        bootstrap_samples=bootstrap_samples,
        with_genre_posters=len(sources) == 1,
        progress=progress,
      )
      for source in sources
    ]
    others = []
    for run, source in zip(runs[1:], sources[1:], strict=True):
      if is_comparing:
        others.append(
          _compare(scored[0], run, source, bootstrap_samples=bootstrap_samples)
        )
      progress('comparison')
  page = _fill(runs, others)
  with files.storage_errors(path):
    path.parent.mkdir(parents=True, exist_ok=True)
  files.write_atomic(path, page)
  return path


def _compare(first, run, source, *, bootstrap_samples):
  """What the template shows of a run against the first."""
  found = comparison.compare(
    first, source.scored, bootstrap_samples=bootstrap_samples
  )
  cards = gallery.Cards(source.scored, [*found.gained, *found.lost])
  return {
    'run': run,
    'differences': found.differences,
    'num_gained': found.num_gained,
    'num_lost': found.num_lost,
    'gained': cards.make(found.gained),
    'lost': cards.make(found.lost),
  }


def _fill(runs, others) -> str:
  environment = templates.environment(_TEMPLATES)
  environment.filters |= {
    'signed': _signed,
    # Of Matplotlib, which has escaped what is in it.
    'svg': markupsafe.Markup,
  }
  script = (_TEMPLATES / 'report.js').read_text(encoding='utf-8')
  digest = hashlib.sha256(script.encode()).digest()
  return environment.get_template('report.html').render(
    runs=runs,
    others=others,
    style=markupsafe.Markup(
      (_TEMPLATES / 'report.css').read_text(encoding='utf-8')
    ),
    script=markupsafe.Markup(script),
    script_digest=base64.b64encode(digest).decode(),
    metrics=views.METRICS,
    versions=machine.versions(['genre_flax', 'jax']),
    date=datetime.datetime.now(datetime.UTC).date().isoformat(),
  )


def _signed(value: float) -> str:
  return f'{value:+.3f}'.replace('-', '−') if math.isfinite(value) else '–'
