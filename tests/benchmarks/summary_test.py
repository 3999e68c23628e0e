import pytest

from benchmarks import summary


def result(library, measurement, *, variant='', **values):
  return {
    'library': library,
    'variant': variant,
    'measurement': measurement,
    'values': {'platform': 'cpu', **values},
  }


def test_median_range_and_ratio():
  own, torch = summary.summarize(
    result(library, 'step', training_images_per_second=rate)
    for library, rate in [
      ('genre_flax', 30.0),
      ('torch', 16.0),
      ('genre_flax', 10.0),
      ('torch', 20.0),
      ('genre_flax', 40.0),
      ('torch', 14.0),
    ]
  )
  assert (own['library'], torch['library']) == ('genre_flax', 'torch')
  assert (own['low'], own['median'], own['high']) == (10.0, 30.0, 40.0)
  assert (torch['low'], torch['median'], torch['high']) == (14.0, 16.0, 20.0)
  assert own['num_repetitions'] == torch['num_repetitions'] == 3
  assert own['ratio'] is None
  assert torch['ratio'] == 30 / 16


def ratios(*results):
  rows = summary.summarize(results)
  return [row['ratio'] for row in rows if row['library'] != 'genre_flax']


def test_ratio_is_inverse_where_less_is_better():
  assert ratios(
    result('genre_flax', 'epoch', seconds=8.0, peak_memory_gb=1.5),
    result('keras', 'epoch', seconds=4.0, peak_memory_gb=12.0),
  ) == [0.5, 8.0]


OWN = result('genre_flax', 'input', images_per_second=100.0)


def test_each_variant_has_a_ratio():
  assert ratios(
    OWN,
    result('keras', 'input', variant='a', images_per_second=50.0),
    result('keras', 'input', variant='b', images_per_second=200.0),
  ) == [2.0, 0.5]


@pytest.mark.parametrize(
  'results',
  [
    [OWN, result('torch', 'input', platform='gpu', images_per_second=5.0)],
    [OWN, result('torch', 'input', images_per_second=0.0)],
    [result('torch', 'input', images_per_second=5.0)],
  ],
)
def test_no_ratio_across_platforms_or_without_both_values(results):
  assert ratios(*results) == [None]


def test_table_is_aligned():
  table = summary.format_table(
    summary.summarize(
      [
        result('genre_flax', 'input', variant='x', images_per_second=1234.5),
        result('genre_flax', 'input', variant='x', images_per_second=1000.0),
        result('torch', 'input', variant='y', images_per_second=50.04),
      ]
    )
  )
  lines = table.splitlines()
  assert len({len(line) for line in lines}) == 1
  cells = [[cell.strip() for cell in line.split('|')[1:-1]] for line in lines]
  assert cells[2:] == [
    [
      'input pipeline, images/s',
      'genre_flax (x)',
      '1,117',
      '1,000 to 1,234',
      '',
    ],
    ['', 'torch (y)', '50.0', '', '22.33'],
  ]
