"""Tests of genre_flax/training/inspection.py."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
from PIL import Image
import pytest

from genre_flax.data import augmentation
from genre_flax.runtime import rng
from genre_flax.training import inputs
from genre_flax.training import inspection
from genre_flax.training import objectives
from genre_flax.training import setup as setup_lib
from tests.support import helpers
from tests.support import programs

NO_AUGMENTATION = {
  'augment.crop_scale': 1.0,
  'augment.translation': 0.0,
  'augment.brightness': 0.0,
  'augment.contrast': 0.0,
}


def inspect(data_dir, tmp_path, *, step=0, **changes):
  config = helpers.tiny_config(data_dir, **changes)
  dataset, setup = setup_lib.set_up(config, tmp_path)
  return config, inspection.inspect(config, dataset, setup, step=step)


def test_images_and_labels_are_those_of_the_training_step(data_dir, tmp_path):
  config, found = inspect(
    data_dir,
    tmp_path,
    step=3,
    **{'augment.mixup_alpha': 0.4, 'pixel_scale': 60.0},
  )
  augment = functools.partial(augmentation.augment, config=config.augment)
  expected, labels = jax.jit(augment)(
    found.batch['image'],
    found.batch['labels'],
    key=rng.stream_key(config.seed, rng.Stream.AUGMENT, 3),
    index=jnp.arange(16),
  )
  assert np.abs(found.images - np.asarray(expected)).max() < 0.51
  np.testing.assert_allclose(found.labels, labels, atol=1e-6)
  assert ((found.labels > 0) & (found.labels < 1)).any()


def test_films_are_those_of_the_images(data_dir, tmp_path, dataset):
  config, found = inspect(data_dir, tmp_path, step=2)
  records = dataset.open_split('train')
  by_id = {records[i].id: i for i in range(len(records))}
  split = inputs.open_split(config, dataset, 'train')
  for film, image in zip(found.films, found.batch['image'], strict=True):
    np.testing.assert_array_equal(split[by_id[film]]['image'], image)


def test_flops_of_a_network_of_convolutions(data_dir, tmp_path):
  _, found = inspect(
    data_dir, tmp_path, **NO_AUGMENTATION, **{'model.tiny.features': (64, 64)}
  )
  # 32 x 24 pixels; 'VALID' convolutions of 3 x 3 with pooling.
  first = 30 * 22 * 64 * 3 * 9
  second = 13 * 9 * 64 * 64 * 9
  # Two operations per product; the backward pass has the gradients of both
  # kernels, and of the input of the second convolution.
  expected = 16 * 2 * (2 * first + 3 * second)
  assert found.flops == pytest.approx(expected, rel=0.15)


class Inverted(objectives.MultiLabel):
  """Inverts images and labels."""

  def loss(self, model, variables, batch, rngs):
    inputs = {'image': 255 - batch['inputs']['image'].astype(jnp.float32)}
    inverted = {**batch, 'inputs': inputs, 'labels': 1 - batch['labels']}
    return super().loss(model, variables, inverted, rngs)


def test_changes_by_an_own_objective_are_drawn(data_dir, tmp_path):
  name = f'{__name__}:Inverted'
  _, found = inspect(
    data_dir, tmp_path, **NO_AUGMENTATION, **{'objective.name': name}
  )
  np.testing.assert_array_equal(found.images, 255 - found.batch['image'])
  np.testing.assert_array_equal(found.labels, 1 - found.batch['labels'])


@pytest.mark.slow
def test_program_writes_a_picture(data_dir, tmp_path):
  path = tmp_path / 'batch.png'
  done = programs.run(
    'inspect',
    '--config=configs/quickstart.py',
    '--config.dataset.synthetic_posters=0',
    f'--config.dataset.data_dir={data_dir}',
    '--config.batch_size=8',
    f'--output={path}',
  )
  assert done.returncode == 0, done.stderr
  assert '  ConvMaxPool_0/kernel  [3, 3, 3, 16]  432\n' in done.stdout
  assert 'labels  float32  [8, ' in done.stdout
  assert f'Wrote {path}: 8 of 8 posters' in done.stdout
  with Image.open(path) as picture:
    assert picture.width > 6 * 180
