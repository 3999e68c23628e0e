"""Tests of exact evaluation."""

import flax.linen as nn
import jax
import numpy as np
import optax
import pytest

from genre_flax import config as config_lib
from genre_flax.data import input_pipeline
from genre_flax.evaluation import evaluator
from genre_flax.evaluation import metrics
from genre_flax.models import forward
from genre_flax.models import registry
from genre_flax.runtime import parallel

SHAPE = (24, 16)


@pytest.fixture(scope='module')
def network(dataset):
  model = registry.create_model(
    'tiny', num_genres=len(dataset.genres), options={'features': (4, 8)}
  )
  images = np.zeros((1, *SHAPE, 3), np.float32)
  params = model.init(jax.random.key(0), images, train=False)['params']
  return model, params


def decoded(dataset, split='train'):
  return input_pipeline.DecodedSplit(
    dataset.open_split(split), image_shape=SHAPE
  )


def run(network, split, batch_size, crops=(1.0,)):
  model, params = network
  return evaluator.evaluate_split(
    evaluator.make_eval_step(
      model, config_lib.Preprocessing(*SHAPE, 127.5, 127.5, tuple(crops))
    ),
    parallel.replicate({'params': params, 'batch_stats': {}}),
    split,
    input_pipeline.LoaderOptions(global_batch_size=batch_size, num_threads=1),
  )


@pytest.mark.parametrize('batch_size', [8, 16, 64, 104, 256])
def test_matches_the_network_applied_to_each_example(
  network, dataset, batch_size
):
  model, params = network
  split = decoded(dataset)
  assert len(split) % 8  # Padding must be ignored.
  predictions = run(network, split, batch_size)
  images = np.stack([split[i]['image'] for i in range(len(split))])
  labels = np.stack([split[i]['labels'] for i in range(len(split))])
  logits = jax.jit(lambda x: model.apply({'params': params}, x, train=False))(
    (images.astype(np.float32) - 127.5) / 127.5
  )
  np.testing.assert_allclose(
    predictions.scores, 1 / (1 + np.exp(-logits)), atol=1e-5
  )
  np.testing.assert_array_equal(predictions.labels, labels)
  expected = optax.sigmoid_binary_cross_entropy(logits, labels).sum(1).mean()
  found = metrics.compute(predictions.scores, predictions.labels)
  assert found['cross_entropy'] == pytest.approx(float(expected), rel=1e-5)


def test_logits_are_means_over_crops(network, dataset):
  split = decoded(dataset, 'test')
  whole, half, both, repeated = (
    run(network, split, 8, crops).logits
    for crops in ((1.0,), (0.5,), (1.0, 0.5, 0.5), (1.0, 1.0))
  )
  assert np.abs(whole - half).max() > 1e-3
  np.testing.assert_allclose(both, (whole + 2 * half) / 3, atol=1e-5)
  np.testing.assert_allclose(repeated, whole, atol=1e-5)


@pytest.mark.parametrize('crops', [(1.0,), (1.0, 0.5)])
@pytest.mark.parametrize(
  ('images', 'limit', 'size'),
  [
    (8, 1, 1),
    (8, 3, 2),
    (8, 100, 8),
    (7, 3, 7),
  ],
)
def test_chunks_divide_the_batch(
  crops, images, limit, size, network, dataset, monkeypatch
):
  split = decoded(dataset, 'test')
  batch_size = images * jax.device_count()
  expected = run(network, split, batch_size, crops).logits
  model, params = network
  sizes = []

  class Recording(nn.Module):
    @nn.compact
    def __call__(self, images, *, train):
      sizes.append(len(images))
      return model.apply({'params': params}, images, train=train)

  monkeypatch.setattr(forward, '_CHUNK_PIXELS', limit * SHAPE[0] * SHAPE[1])
  logits = run((Recording(), params), split, batch_size, crops).logits
  assert set(sizes) == {size}
  np.testing.assert_allclose(logits, expected, atol=1e-5)


@pytest.mark.parametrize('fault', ['missing', 'repeated'])
def test_missing_or_repeated_example_raises(network, dataset, fault):
  model, params = network
  split = decoded(dataset)

  options = input_pipeline.LoaderOptions(global_batch_size=16, num_threads=1)
  batches = list(input_pipeline.eval_batches(split, options))
  faulty = batches[1:] if fault == 'missing' else [*batches, batches[0]]
  with pytest.raises(RuntimeError, match=rf'[1-9]\d* (are )?{fault}'):
    evaluator.run_over_split(
      evaluator.make_eval_step(
        model, config_lib.Preprocessing(*SHAPE, 0.0, 1.0)
      ),
      parallel.replicate({'params': params, 'batch_stats': {}}),
      (batch for batch in faulty),
      num_examples=len(split),
    )
