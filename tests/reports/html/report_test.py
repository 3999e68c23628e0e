"""The HTML report of trained networks, parsed and in a browser."""

import html.parser
import json
import re
import shutil

from etils import epath
import pytest

from genre_flax.datasets.posters import build
from genre_flax.datasets.posters import sources
from genre_flax.datasets.posters import synthetic
from genre_flax.reports.html import report
from genre_flax.reports.html import runs
from genre_flax.runtime import errors
from genre_flax.training import train
from tests.support import browser
from tests.support import helpers

pytestmark = pytest.mark.slow
# Names of genres that would be harmful if they were not escaped.
HOSTILE = ('<script>alert(1)</script>', '"><img src=x onerror=alert(2)>')


def open_run(workdir, *, data_dir=''):
  return runs.open_run(
    workdir,
    'test',
    step='best',
    data_dir=data_dir,
    batch_size=16,
    bootstrap_samples=10,
    allow_custom_code=False,
  )


def write_report(opened, folder):
  return report.write(
    opened, epath.Path(folder) / 'new' / 'report.html', bootstrap_samples=10
  )


@pytest.fixture(scope='module')
def hostile_data(tmp_path_factory):
  folder = tmp_path_factory.mktemp('hostile')
  csv_file, images = map(
    epath.Path, synthetic.write_posters(folder, num_posters=117)
  )
  csv_file.write_text(csv_file.read_text().replace('synthetic', 'x&y '))
  for path in images.iterdir():
    path.rename(path.parent / path.name.replace('synthetic', 'x&y '))
  build.build(
    sources.Source(csv_file, images),
    data_dir=folder / 'data',
    genre_names=dict(zip(('Drama', 'Comedy'), HOSTILE, strict=True)),
  )
  return folder / 'data'


@pytest.fixture(scope='module')
def opened(hostile_data, tmp_path_factory):
  """Two runs."""
  result = []
  for name, seed in (('run <b>', 0), ('other', 1)):
    folder = tmp_path_factory.mktemp(name)
    config = helpers.tiny_config(hostile_data, seed=seed)
    train.train(config, folder)
    result.append(open_run(epath.Path(folder)))
  return result


@pytest.fixture(scope='module')
def page(opened, tmp_path_factory):
  return write_report(opened[:1], tmp_path_factory.mktemp('page'))


@pytest.fixture(scope='module')
def comparison_page(opened, tmp_path_factory):
  return write_report(opened, tmp_path_factory.mktemp('comparison'))


class Elements(html.parser.HTMLParser):
  """The tags with their attributes, and the texts, of a page."""

  def __init__(self, path):
    super().__init__()
    self.tags, self.texts = [], []
    self.feed(path.read_text())

  def handle_starttag(self, tag, attributes):
    self.tags.append((tag, dict(attributes)))

  def handle_data(self, data):
    self.texts.append(data.strip())


def test_names_are_escaped(page, comparison_page):
  for path in (page, comparison_page):
    elements = Elements(path)
    assert [tag for tag, _ in elements.tags].count('script') == 1
    assert not any('onerror' in attributes for _, attributes in elements.tags)
    for name in HOSTILE:
      assert name in elements.texts


def test_page_is_self_contained(page):
  for tag, attributes in Elements(page).tags:
    for name in ('src', 'href'):
      value = attributes.get(name) or '#'
      assert value.startswith(('data:image/jpeg', '#')), (tag, name)
  assert 'url(http' not in page.read_text()


def test_page_shows_metrics_and_setup(page, opened):
  metrics = opened[0].metrics['metrics']
  texts = Elements(page).texts
  for name in ('mean_average_precision', 'hit_at_3', 'macro_f1_fitted'):
    assert f'{metrics[name]["value"]:.3f}' in texts
    assert f'{metrics[name]["constant_baseline"]:.3f}' in texts
  assert sum(text.startswith('step (dashed: ') for text in texts) == 4
  joined = ' '.join(texts)
  assert 'config.batch_size' in joined
  assert 'config.seed' not in joined  # It has the default value.
  assert '1 x cpu' in joined or '8 x cpu' in joined
  assert re.findall(r'from step (\d+), on', joined) == ['0']


def test_posters_have_attribution_maps(page):
  classes = [a.get('class') for tag, a in Elements(page).tags if tag == 'img']
  assert classes.count('poster') == classes.count('map') > 24


def test_missing_dataset(opened, hostile_data, tmp_path):
  workdir = epath.Path(shutil.copytree(opened[0].workdir, tmp_path / 'run'))
  metrics = opened[0].metrics
  (workdir / 'metrics.json').write_text(json.dumps(metrics))
  moved = hostile_data.parent / 'moved'
  hostile_data.rename(moved)
  try:
    run = open_run(workdir)
    assert run.scored is None
    texts = Elements(write_report([run], tmp_path)).texts
    assert open_run(workdir, data_dir=str(moved)).scored is not None
    with pytest.raises(errors.InputError, match='absent'):
      open_run(workdir, data_dir=str(tmp_path / 'absent'))
  finally:
    moved.rename(hostile_data)
  assert f'{metrics["metrics"]["hit_at_3"]["value"]:.3f}' in texts
  assert '--data_dir' in texts
  assert 'Most confident correct predictions' not in texts


def test_comparison_shows_values_and_differences(comparison_page, opened):
  texts = Elements(comparison_page).texts
  value = opened[1].metrics['metrics']['mean_roc_auc']['value']
  assert f'{value:.3f}' in texts
  assert any(re.match(r'[+−]\d\.\d{3}\s', text) for text in texts)


@pytest.fixture(scope='module')
def chromium():
  with browser.launched() as launched:
    yield launched


class TestInBrowser:
  @pytest.fixture
  def tab(self, chromium, page):
    with browser.opened(chromium, f'file://{page}') as tab:
      yield tab

  @pytest.mark.parametrize('width', [390, 1100])
  @pytest.mark.parametrize('scheme', ['light', 'dark'])
  def test_width_and_theme(self, chromium, page, width, scheme):
    with browser.opened(
      chromium, f'file://{page}', width=width, color_scheme=scheme
    ) as tab:
      assert tab.evaluate('document.documentElement.scrollWidth') <= width
      background, ink = (
        tab.evaluate(f'getComputedStyle(document.body).{name}')
        for name in ('backgroundColor', 'color')
      )
      light = sum(map(int, re.findall(r'\d+', background)[:3])) > 600
      assert light == (scheme == 'light')
      # Charts have the colors of the theme.
      label = tab.locator('svg text').first
      color = label.evaluate('e => getComputedStyle(e).fill')
      assert color not in (background, 'rgb(2, 2, 2)')
      assert ink != background

  def test_headings_sort_table(self, tab):
    table = tab.locator('#r0-genres table')

    def column(number):
      cells = table.locator(f'tbody td:nth-child({number})')
      return [cell.get_attribute('data-value') for cell in cells.all()]

    supports = list(map(int, column(2)))
    assert supports == sorted(supports, reverse=True)
    table.get_by_role('button', name='posters').click()
    assert list(map(int, column(2))) == sorted(supports)
    table.get_by_role('button', name='average precision').click()
    values = [float(value) for value in column(3) if value]
    assert values == sorted(values, reverse=True)
    heading = table.locator('th[aria-sort=descending]')
    assert heading.inner_text().startswith('average precision')

  def test_attribution_maps_are_shown_on_request(self, tab):
    button = tab.locator('#r0-posters .card button').first
    button.focus()
    tab.keyboard.press('Enter')
    assert button.get_attribute('aria-pressed') == 'true'
    tab.wait_for_timeout(300)
    maps = tab.locator('#r0-posters .card .map')
    opacity = 'e => getComputedStyle(e).opacity'
    assert maps.first.evaluate(opacity) == '1'
    assert maps.last.evaluate(opacity) == '0'
    tab.get_by_label('attribution maps').check()
    tab.wait_for_timeout(300)
    assert maps.last.evaluate(opacity) == '1'

  def test_link_opens_genre(self, tab):
    details = tab.locator('#r0-genre-0')
    assert not details.evaluate('e => e.open')
    tab.locator('#r0-genres tbody a').first.click()
    tab.wait_for_function("document.getElementById('r0-genre-0').open")
    assert details.locator('svg').is_visible()
