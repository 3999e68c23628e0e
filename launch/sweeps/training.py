"""The failures and the metrics of a training of a sweep."""

import json
import re
import signal

from etils import epath

from genre_flax.runtime import metric_writer

_NO_MEMORY = re.compile(
  r'RESOURCE_EXHAUSTED|out.of.memory|MemoryError|bad_alloc|oom-kill'
  r'|cannot allocate memory',
  re.IGNORECASE,
)
# By the exit statuses of genre_flax.runtime.errors.
_KINDS = {2: 'bad config', 65: 'diverged', 69: 'unavailable', 73: 'busy'}
_KINDS |= {74: 'storage', 75: 'stalled'}


def failure(status: int, output: str) -> tuple[str, str]:
  """The kind of a failure, such as 'diverged', and its reason.

  Both follow from the exit status and the end of the output.
  """
  lines = [line.strip() for line in output.splitlines() if line.strip()]
  last = lines[-1] if lines else f'exit status {status}'
  if status in _KINDS:
    message = [n for n, line in enumerate(lines) if line.startswith('error: ')]
    return _KINDS[status], ' '.join(lines[message[-1] :]) if message else last
  if memory := [line for line in lines if _NO_MEMORY.search(line)]:
    return 'out of memory', memory[-1]
  if status in (-signal.SIGKILL, 128 + signal.SIGKILL):
    return 'out of memory', 'killed by SIGKILL, probably for its memory'
  return 'crash', last


def read_progress(
  workdir: str, *, metric: str, split: str
) -> tuple[list[float], bool, float]:
  """Reads the metrics of a workdir, which may not exist yet.

  Returns:
    The values of a metric, whether the last evaluation is among them, and the
    peak memory of the host process in 10**9 bytes, or 0.
  """
  lines = metric_writer.read(workdir)
  memory = max((line.get('peak_memory_gb') or 0 for line in lines), default=0)
  lines = [line for line in lines if line.get('split') == split]
  lines = [line for line in lines if line.get(metric) is not None]
  try:
    starts = json.loads((epath.Path(workdir) / 'starts.json').read_bytes())
    is_last = lines[-1]['step'] == starts[-1]['num_train_steps']
  except (OSError, ValueError, LookupError, TypeError):
    is_last = False
  return [line[metric] for line in lines], is_last, memory
