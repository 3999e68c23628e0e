import functools
import json

import pytest

from tests.support import programs

pytestmark = pytest.mark.slow


run = functools.partial(programs.run, '__main__', package='benchmarks')


def test_results_are_printed_and_written(data_dir, tmp_path):
  output = tmp_path / 'benchmark.json'
  result = run(
    *('--config=configs/quickstart.py', '--config.dataset.synthetic_posters=0'),
    f'--config.dataset.data_dir={data_dir}',
    *('--config.image_height=16', '--config.image_width=16'),
    *('--config.model.tiny.features=(4,)', '--config.batch_size=8'),
    *('--libraries=', '--repetitions=1', '--num_steps=2', '--measure=step'),
    f'--output={output}',
  )
  assert result.returncode == 0, result.stderr
  written = json.loads(output.read_text())
  assert written['num_examples'] == {'train': 93, 'validation': 12, 'test': 12}
  assert 'ema_decay' in written['changed_for_comparison']
  assert written['versions']['jax'] in result.stdout
  assert [row['metric'] for row in written['summary']] == [
    'training_images_per_second',
    'inference_images_per_second',
    'compile_seconds',
  ]
  for row in written['summary']:
    assert (row['library'], row['variant']) == ('genre_flax', 'float32')
    assert 0 <= row['low'] <= row['median'] <= row['high']
    assert row['title'] in result.stdout


@pytest.mark.parametrize(
  ('arguments', 'message'),
  [
    ([], 'contains no prepared data'),
    (['--libraries=mxnet'], '--libraries: mxnet is unavailable'),
  ],
)
def test_unusable_arguments_are_one_message(arguments, message):
  result = run('--config=configs/poster_cnn.py', *arguments)
  assert result.returncode == 2
  assert message in result.stderr.splitlines()[-1]
