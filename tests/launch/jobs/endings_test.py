import pytest

from launch.jobs import endings


@pytest.mark.parametrize(
  ('statuses', 'ending'),
  [
    ((), None),
    ((None, None), None),
    ((0, None), None),
    ((0, 0), endings.Ending.SUCCESS),
    ((134, 2), endings.Ending.BAD_INPUT),
    ((143, 143), endings.Ending.PREEMPTED),
    ((134, 143), endings.Ending.PREEMPTED),
    ((0, 137), endings.Ending.CRASHED),
    ((None, 1), endings.Ending.CRASHED),
  ],
)
def test_what_exit_statuses_mean(statuses, ending):
  assert endings.judge_statuses(statuses) is ending
