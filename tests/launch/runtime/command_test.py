import subprocess
import sys

import pytest

from genre_flax.runtime import errors
from launch.runtime import command

HARD = ('a b', "it's", '"x"', '$HOME', '`id`', '*', '', '\\', "--f=('a', 1)\n!")


def test_a_quoted_command_gives_a_shell_the_very_arguments():
  show = [sys.executable, '-c', 'import sys; print(sys.argv[1:])', *HARD]
  done = subprocess.run(
    ['bash', '-c', command.quote(show)], capture_output=True, text=True
  )
  assert done.stdout.strip() == repr(list(HARD))


def test_a_missing_tool_and_a_failing_one_are_explained(monkeypatch, tmp_path):
  with pytest.raises(errors.ResourceError, match='status 3(.|\n)*no quota'):
    command.check(['bash', '-c', 'echo no quota >&2; exit 3'])
  monkeypatch.setenv('PATH', str(tmp_path))
  with pytest.raises(errors.ResourceError, match='Google Cloud CLI'):
    command.run(['gcloud', 'info'])


def test_a_command_that_does_not_end_is_ended():
  assert command.run(['sleep', '60'], timeout_seconds=0.1).exit_status == 124
