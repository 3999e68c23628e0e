import dataclasses
import json

import numpy as np
import pytest

from benchmarks import child
from benchmarks import data
from genre_flax import config as config_lib
from genre_flax.datasets.posters import storage
from tests.support import binaries
from tests.support import helpers

pytestmark = pytest.mark.slow

_TINY = (
  '--config=configs/quickstart.py',
  '--config.dataset.synthetic_posters=0',
  '--config.image_height=16',
  '--config.image_width=16',
  '--config.model.tiny.features=(4,)',
  '--config.batch_size=8',
  '--config.bootstrap_samples=0',
  '--config.report=False',
)


def test_measures_its_own_side_and_prints_and_writes_it(data_dir, tmp_path):
  output = tmp_path / 'benchmark.json'
  result = binaries.run(
    'benchmark',
    *_TINY,
    f'--config.dataset.data_dir={data_dir}',
    '--peers=',
    '--repetitions=1',
    '--num_steps=2',
    '--num_posters=40',
    '--measure=step',
    '--measure=growth',
    '--growth=30',
    f'--output={output}',
  )
  assert result.returncode == 0, result.stderr
  written = json.loads(output.read_text())
  # Of 117 posters 93 are to train: of 40 that is 31.8, of 12 it is 4.1.
  assert written['num_examples'] == {'train': 32, 'validation': 4, 'test': 4}
  assert 'ema_decay' in written['changed_for_comparison']
  assert written['versions']['jax'] in result.stdout
  rows = {
    (row['metric'], row['variant']): row
    for row in written['summary']
    if row['contender'] == 'genre_flax'
  }
  assert set(rows) == {
    ('training_images_per_second', 'float32'),
    ('inference_images_per_second', 'float32'),
    ('compile_seconds', 'float32'),
    ('milliseconds_per_image', '30 posters'),
    ('peak_memory_gb', '30 posters'),
  }
  for row in rows.values():
    assert row['repetitions'] == 1
    assert 0 <= row['low'] <= row['median'] <= row['high']
    assert row['title'] in result.stdout


def test_what_is_wrong_is_said_in_one_line(data_dir):
  result = binaries.run('benchmark', '--config=configs/poster_cnn.py')
  assert result.returncode == 2
  assert 'contains no prepared dataset' in result.stderr.splitlines()[-1]
  result = binaries.run(
    'benchmark', '--config=configs/poster_cnn.py', '--peers=mxnet'
  )
  assert result.returncode == 2
  assert '--peers: mxnet cannot take part' in result.stderr


def test_records_are_repeated_with_their_images_and_labels(data_dir, tmp_path):
  config = helpers.tiny_config(data_dir)
  spec = child.Spec(
    contender='data',
    measurement='prepare',
    config=config_lib.to_dict(config),
    num_images=250,
    files=str(tmp_path),
  )
  prepared = data.prepare(spec)
  # 250 x 93 / 117 = 198.7, and 250 x 12 / 117 = 25.6.
  assert prepared['num_examples'] == {
    'train': 199,
    'validation': 26,
    'test': 26,
  }
  assert prepared['num_images'] == 199
  original = storage.open_dataset(data_dir)
  repeated = storage.open_dataset(prepared['data_dir'])
  assert repeated.genres == original.genres
  assert prepared['num_genres'] == len(original.genres)

  def contents(dataset):
    split = dataset.open_split('train')
    records = [split[index] for index in range(len(split))]
    assert len({record.id for record in records}) == len(records)
    return {(record.image, tuple(record.labels)) for record in records}

  assert contents(repeated) == contents(original)
  spec = dataclasses.replace(spec, **prepared)
  paths, labels = spec.read_split('train_split')
  assert len(paths) == len(labels) == 199
  with open(paths[93], 'rb') as first_copy, open(paths[0], 'rb') as first:
    assert first_copy.read() == first.read()
  np.testing.assert_array_equal(labels[93], labels[0])
