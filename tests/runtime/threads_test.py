import threading
import time

import pytest

from genre_flax.runtime import threads


def test_results_come_in_the_order_of_the_items():
  def slow_at_first(number):
    time.sleep(0.01 if number % 5 == 0 else 0)
    return number * number

  results = threads.map_in_order(slow_at_first, range(50), num_threads=4)
  assert list(results) == [number * number for number in range(50)]


def test_it_runs_ahead_but_not_far():
  taken = []

  def items():
    for number in range(1000):
      taken.append(number)
      yield number

  results = threads.map_in_order(lambda n: n, items(), num_threads=2)
  assert [next(results) for _ in range(10)] == list(range(10))
  assert len(taken) <= 10 + 2 * 4 + 1
  results.close()


def test_an_error_comes_at_its_place_and_ends_it():
  def fail_at_3(number):
    if number == 3:
      raise ValueError('three')
    return number

  results = threads.map_in_order(fail_at_3, range(100), num_threads=2)
  assert [next(results) for _ in range(3)] == [0, 1, 2]
  with pytest.raises(ValueError, match='three'):
    next(results)


def test_no_thread_is_left():
  before = threading.active_count()
  assert list(threads.map_in_order(str, range(9))) == list(map(str, range(9)))
  assert threading.active_count() == before
