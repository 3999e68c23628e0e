import threading

import pytest

from genre_flax.runtime import threads


def test_results_are_in_the_order_of_the_items():
  second_is_done = threading.Event()

  def square(number):
    if number == 0:
      assert second_is_done.wait(10)
    if number == 1:
      second_is_done.set()
    return number * number

  results = threads.map_in_order(square, range(50), num_threads=4)
  assert list(results) == [number * number for number in range(50)]


def test_the_number_of_pending_items_is_bounded():
  taken = []

  def items():
    for number in range(1000):
      taken.append(number)
      yield number

  results = threads.map_in_order(lambda n: n, items(), num_threads=2)
  assert [next(results) for _ in range(10)] == list(range(10))
  assert len(taken) <= 10 + 2 * 4 + 1
  results.close()


def test_an_error_is_raised_in_order():
  def fail_at_3(number):
    if number == 3:
      raise ValueError('three')
    return number

  results = threads.map_in_order(fail_at_3, range(100), num_threads=2)
  assert [next(results) for _ in range(3)] == [0, 1, 2]
  with pytest.raises(ValueError, match='three'):
    next(results)
