import pytest

from benchmarks import report


def result(contender, measurement, *, variant='', **values):
  return {
    'contender': contender,
    'variant': variant,
    'measurement': measurement,
    'values': {'platform': 'cpu', **values},
  }


def test_median_spread_and_ratio_are_those_worked_out_by_hand():
  rows = report.summarize(
    result(contender, 'step', training_images_per_second=rate)
    for contender, rate in [
      ('genre_flax', 30.0),
      ('torch', 16.0),
      ('genre_flax', 10.0),
      ('torch', 20.0),
      ('genre_flax', 40.0),
      ('torch', 14.0),
    ]
  )
  assert [row['contender'] for row in rows] == ['genre_flax', 'torch']
  own, torch = rows
  assert (own['low'], own['median'], own['high']) == (10.0, 30.0, 40.0)
  assert (torch['low'], torch['median'], torch['high']) == (14.0, 16.0, 20.0)
  assert own['repetitions'] == torch['repetitions'] == 3
  assert own['ratio'] is None
  assert torch['ratio'] == 30 / 16


def test_an_even_number_of_repetitions_has_the_mean_of_the_two_in_the_middle():
  (row,) = report.summarize(
    result('genre_flax', 'quickstart', seconds=seconds)
    for seconds in (1.0, 9.0, 2.0, 4.0)
  )
  assert row['median'] == 3.0


def test_where_less_is_better_the_ratio_is_the_other_way_round():
  rows = report.summarize(
    [
      result('genre_flax', 'epoch', seconds=8.0, peak_memory_gb=1.5),
      result('keras', 'epoch', seconds=4.0, peak_memory_gb=12.0),
    ]
  )
  ratios = {
    row['metric']: row['ratio'] for row in rows if row['contender'] == 'keras'
  }
  assert ratios == {'seconds': 0.5, 'peak_memory_gb': 8.0}


def test_every_variant_of_a_peer_is_a_row_with_its_own_ratio():
  rows = report.summarize(
    [
      result('genre_flax', 'input', images_per_second=100.0),
      result('keras', 'input', variant='a', images_per_second=50.0),
      result('keras', 'input', variant='b', images_per_second=200.0),
    ]
  )
  assert [(row['variant'], row['ratio']) for row in rows[1:]] == [
    ('a', 2.0),
    ('b', 0.5),
  ]


def test_growth_is_relative_to_the_smallest_data_set():
  rows = report.summarize(
    [
      result(
        'genre_flax', 'growth', variant='1,000', milliseconds_per_image=2.0
      ),
      result(
        'genre_flax', 'growth', variant='20,000', milliseconds_per_image=3.0
      ),
    ]
  )
  assert [row['ratio'] for row in rows] == [None, 1.5]


@pytest.mark.parametrize(
  'other',
  [
    {'platform': 'gpu', 'images_per_second': 5.0},
    {'images_per_second': 0.0},
  ],
)
def test_there_is_no_ratio_to_another_platform_nor_to_nothing(other):
  rows = report.summarize(
    [
      result('genre_flax', 'input', images_per_second=100.0),
      result('torch', 'input', **other),
    ]
  )
  assert rows[1]['ratio'] is None


def test_there_is_no_ratio_between_two_peers():
  rows = report.summarize(
    [
      result('keras', 'input', images_per_second=100.0),
      result('torch', 'input', images_per_second=50.0),
    ]
  )
  assert [row['ratio'] for row in rows] == [None, None]


def test_the_table_names_a_measure_once_and_is_aligned():
  table = report.format_table(
    report.summarize(
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
      'input pipeline alone, images/s',
      'genre_flax (x)',
      '1,117',
      '1,000 to 1,234',
      '',
    ],
    ['', 'torch (y)', '50.0', '', '22.33'],
  ]
