"""The report of real runs, and what a browser makes of it."""

import html.parser
import json
import re
import shutil

from etils import epath
import pytest

from genre_flax.datasets.posters import build
from genre_flax.datasets.posters import sources as posters_sources
from genre_flax.datasets.posters import synthetic
from genre_flax.reports.html import render
from genre_flax.reports.html import sources
from genre_flax.reports.html import views
from genre_flax.runtime import errors
from genre_flax.training import train
from tests.support import browser
from tests.support import helpers

# What the names of two genres may hold.
HOSTILE = ('<script>alert(1)</script>', '"><img src=x onerror=alert(2)>')


def train_run(data_dir, folder, **changes):
  config = helpers.tiny_config(data_dir, **changes)
  train.train(config, folder)
  return epath.Path(folder)


def open_source(workdir, **changes):
  options = {
    'step': 'best',
    'data_dir': '',
    'batch_size': 16,
    'bootstrap_samples': 10,
    'allow_custom_code': False,
  }
  return sources.open_source(workdir, 'test', **{**options, **changes})


@pytest.fixture(scope='module')
def hostile_data(tmp_path_factory):
  folder = tmp_path_factory.mktemp('hostile')
  csv_file, images = synthetic.write_posters(folder, num_posters=117)
  text = epath.Path(csv_file).read_text().replace('synthetic', 'a<b>&"c')
  epath.Path(csv_file).write_text(text.replace('a<b>&"c', 'x&y '))
  for path in epath.Path(images).iterdir():
    path.rename(path.parent / path.name.replace('synthetic', 'x&y '))
  build.build(
    posters_sources.Source(epath.Path(csv_file), epath.Path(images)),
    data_dir=folder / 'data',
    genre_names=dict(zip(('Drama', 'Comedy'), HOSTILE, strict=True)),
  )
  return folder / 'data'


@pytest.fixture(scope='module')
def workdir(hostile_data, tmp_path_factory):
  return train_run(hostile_data, tmp_path_factory.mktemp('run <b>'))


@pytest.fixture(scope='module')
def other_workdir(hostile_data, tmp_path_factory):
  return train_run(hostile_data, tmp_path_factory.mktemp('other'), seed=1)


@pytest.fixture(scope='module')
def page(workdir, tmp_path_factory):
  path = epath.Path(tmp_path_factory.mktemp('page')) / 'new' / 'report.html'
  return render.write([open_source(workdir)], path, bootstrap_samples=10)


@pytest.fixture(scope='module')
def comparison(workdir, other_workdir, tmp_path_factory):
  return render.write(
    [open_source(workdir), open_source(other_workdir)],
    epath.Path(tmp_path_factory.mktemp('comparison')) / 'report.html',
    bootstrap_samples=10,
  )


class Elements(html.parser.HTMLParser):
  """Collects tags with their attributes, and the texts."""

  def __init__(self, content):
    super().__init__()
    self.tags, self.texts = [], []
    self.feed(content)

  def handle_starttag(self, tag, attributes):
    self.tags.append((tag, dict(attributes)))

  def handle_data(self, data):
    self.texts.append(data.strip())


def test_names_are_text_and_nothing_else(page, comparison):
  for path in (page, comparison):
    elements = Elements(path.read_text())
    assert [tag for tag, _ in elements.tags].count('script') == 1
    assert not any('onerror' in attributes for _, attributes in elements.tags)
    for name in HOSTILE:
      assert name in elements.texts


def test_nothing_is_loaded_from_anywhere(page):
  for tag, attributes in Elements(page.read_text()).tags:
    for name in ('src', 'href'):
      value = attributes.get(name) or ''
      assert value.startswith(('data:image/jpeg', '#')) or not value, (
        tag,
        name,
      )
  assert 'url(http' not in page.read_text()


def test_the_numbers_are_those_of_the_metrics(page, workdir):
  metrics = open_source(workdir).metrics
  texts = Elements(page.read_text()).texts
  for name in ('mean_average_precision', 'hit_at_3', 'macro_f1_fitted'):
    assert f'{metrics["metrics"][name]["value"]:.3f}' in texts
  assert sum(text.startswith('step (dashed: ') for text in texts) == 4


def test_four_of_them_stand_at_the_top(page):
  [top] = re.findall(
    r'<div class="numbers">(.*?)</section>', page.read_text(), re.S
  )
  titles = {name: title for name, title, _ in views.METRICS}
  assert re.findall('<span>(.*?)</span>', top) == [
    titles[name] for name in views.HEADLINES
  ]
  assert len(views.HEADLINES) == 4


def test_a_run_that_was_evaluated_without_a_metric_has_none_of_it(workdir):
  report = dict(open_source(workdir).metrics)
  del report['metrics']['hit_at_3_together']
  rows = views.metric_rows(report)
  assert len(rows) == len(views.METRICS) - 1
  run = views.RunView(
    facts=None,
    metrics=rows,
    headlines=[],
    report=report,
    curves={},
    posters=None,
  )
  assert run.value_of('hit_at_3_together') is None
  expected = report['metrics']['accuracy']['value']
  assert run.value_of('accuracy') == expected


def test_it_says_how_the_run_was_made(page):
  texts = ' '.join(Elements(page.read_text()).texts)
  assert 'config.batch_size' in texts
  assert 'config.seed' not in texts  # It is the default's.
  assert '1 x cpu' in texts or '8 x cpu' in texts
  (start,) = re.findall(r'from step (\d+), on', texts)
  assert start == '0'


def test_every_poster_has_a_map(page):
  tags = Elements(page.read_text()).tags
  classes = [a.get('class') for tag, a in tags if tag == 'img']
  assert classes.count('poster') == classes.count('map') > 24


def test_without_the_data_set_it_has_what_the_workdir_keeps(
  workdir, tmp_path, caplog
):
  moved = tmp_path / 'run'
  shutil.copytree(workdir, moved)
  config = json.loads((moved / 'config.json').read_text())
  source = open_source(epath.Path(moved))
  (moved / 'metrics.json').write_text(json.dumps(source.metrics))
  data = epath.Path(config['dataset']['data_dir'])
  away = data.parent / 'away'
  data.rename(away)
  try:
    source = open_source(epath.Path(moved))
    assert source.scored is None
    path = render.write(
      [source], epath.Path(tmp_path) / 'report.html', bootstrap_samples=10
    )
    elsewhere = open_source(epath.Path(moved), data_dir=str(away))
    assert elsewhere.scored is not None
    with pytest.raises(errors.InputError, match='gone'):
      open_source(epath.Path(moved), data_dir=str(tmp_path / 'gone'))
  finally:
    away.rename(data)
  texts = Elements(path.read_text()).texts
  assert f'{source.metrics["metrics"]["hit_at_3"]["value"]:.3f}' in texts
  assert any('--data_dir' in text for text in texts)
  assert 'Sure and right' not in texts


def test_a_comparison_has_both_and_the_difference(comparison, other_workdir):
  elements = Elements(comparison.read_text())
  value = open_source(other_workdir).metrics['metrics']['mean_roc_auc']['value']
  assert f'{value:.3f}' in elements.texts
  assert any(re.match(r'[+−]\d\.\d{3}\s', text) for text in elements.texts)


@pytest.fixture(scope='module')
def chromium():
  with browser.launched() as launched:
    yield launched


class TestInABrowser:
  @pytest.mark.parametrize('width', [390, 1100])
  @pytest.mark.parametrize('scheme', ['light', 'dark'])
  def test_it_fits_and_has_the_colours_of_its_theme(
    self, chromium, page, width, scheme
  ):
    with browser.opened(
      chromium, f'file://{page}', width=width, color_scheme=scheme
    ) as tab:
      assert tab.evaluate('document.documentElement.scrollWidth') <= width
      back, ink = (
        tab.evaluate(f'getComputedStyle(document.body).{name}')
        for name in ('backgroundColor', 'color')
      )
      light = sum(map(int, re.findall(r'\d+', back)[:3])) > 600
      assert light == (scheme == 'light')
      # A text of a chart has the colour that the theme gives it.
      label = tab.locator('svg text').first
      color = label.evaluate('e => getComputedStyle(e).fill')
      assert color not in (back, 'rgb(2, 2, 2)')
      assert ink != back

  def test_tables_are_sorted_by_their_headings(self, chromium, page):
    with browser.opened(chromium, f'file://{page}') as tab:
      table = tab.locator('#r0-genres table')

      def column(number):
        cells = table.locator(f'tbody td:nth-child({number})')
        return [cell.get_attribute('data-value') for cell in cells.all()]

      supports = list(map(int, column(2)))
      assert supports == sorted(supports, reverse=True)
      table.get_by_role('button', name='posters').click()
      assert list(map(int, column(2))) == sorted(supports)
      table.get_by_role('button', name='genre').click()
      assert sorted(column(1), key=str.casefold) != column(1)[::-1]
      table.get_by_role('button', name='average precision').click()
      values = [float(value) for value in column(3) if value]
      assert values == sorted(values, reverse=True)
      heading = table.locator('th[aria-sort]')
      assert heading.get_attribute('aria-sort') == 'descending'
      assert heading.inner_text().startswith('average precision')

  def test_a_poster_that_is_pressed_shows_the_map(self, chromium, page):
    with browser.opened(chromium, f'file://{page}') as tab:
      button = tab.locator('#r0-posters .card button').first
      button.focus()
      map_ = button.locator('.map')
      opacity = 'e => getComputedStyle(e).opacity'
      assert map_.evaluate(opacity) == '0'
      tab.keyboard.press('Enter')
      assert button.get_attribute('aria-pressed') == 'true'
      tab.wait_for_timeout(300)
      assert map_.evaluate(opacity) == '1'
      other = tab.locator('#r0-posters .card .map').last
      assert other.evaluate(opacity) == '0'
      tab.get_by_label('where it looked').check()
      tab.wait_for_timeout(300)
      assert other.evaluate(opacity) == '1'

  def test_a_link_to_a_genre_opens_it(self, chromium, page):
    with browser.opened(chromium, f'file://{page}') as tab:
      details = tab.locator('#r0-genre-0')
      assert not details.evaluate('e => e.open')
      tab.locator('#r0-genres tbody a').first.click()
      tab.wait_for_function("document.getElementById('r0-genre-0').open")
      assert details.locator('svg').is_visible()

  def test_a_comparison_opens_too(self, chromium, comparison):
    with browser.opened(chromium, f'file://{comparison}', width=390) as tab:
      assert tab.locator('#comparison tbody tr').count() == len(views.METRICS)
      assert tab.evaluate('document.documentElement.scrollWidth') <= 390
