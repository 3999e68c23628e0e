"""Tests of genre_flax/config.py."""

import numpy as np
import pytest

from configs import linear_probe as linear_probe_config
from genre_flax import config as config_lib
from genre_flax import config_validation
from genre_flax.evaluation import metrics
from genre_flax.models import convnext
from genre_flax.models import registry
from genre_flax.models import transformer
from genre_flax.models import vit
from genre_flax.runtime import errors
from genre_flax.training import losses
from tests.support import helpers


def make_config(**changes):
  return helpers.tiny_config('data', **changes)


@pytest.mark.parametrize(
  'key, value',
  [
    ('seed', -1),
    ('batch_size', 0),
    ('image_height', 8),
    ('pixel_mean', float('inf')),
    ('model.tiny.features', (0, 16)),
    ('model.resnet.num_blocks', ()),
    ('augment.crop_scale', 0.0),
    ('augment.horizontal_flip', 1.5),
    ('dataset.cache', 'tape'),
    ('dataset.train_share', 0.0),
    *(('dataset.fold', fold) for fold in ('0/5', '6/5', '1/1', '1/101', '2')),
    ('model.name', 'vgg'),
    ('model.dtype', 'float16'),
    ('optimizer.name', 'lion'),
    ('optimizer.schedule', 'step'),
    ('optimizer.learning_rate', float('nan')),
    ('optimizer.clip_norm', -1.0),
    ('ema_decay', 1.0),
    ('eval_crops', ()),
    ('eval_crops', (1.0, 1.1)),
    ('eval_crops', (0.0,)),
  ],
)
def test_invalid_value_is_listed_with_its_rule(key, value):
  with pytest.raises(errors.InputError) as e:
    config_validation.validate(make_config(**{key: value}))
  assert f'config.{key}={value!r}: must be ' in str(e.value)


def test_all_faults_are_listed_at_once():
  with pytest.raises(errors.InputError) as e:
    config_validation.validate(make_config(batch_size=0, ema_decay=-1.0))
  assert 'config.batch_size=0' in str(e.value)
  assert 'config.ema_decay=-1.0' in str(e.value)


@pytest.mark.parametrize(
  'changes', [{'dataset.data_dir': ''}, {'dataset.synthetic_posters': 10}]
)
def test_exactly_one_source_of_data_is_required(changes):
  config_validation.validate(make_config())
  with pytest.raises(errors.InputError, match='set exactly one'):
    config_validation.validate(make_config(**changes))


def linear_probe(**changes):
  config = linear_probe_config.get_config()
  config.dataset.data_dir = 'somewhere'
  config.update_from_flattened_dict(changes)
  return config


@pytest.mark.parametrize(
  ('changes', 'words'),
  [
    ({'trainable': '.*'}, "needs config.trainable='head/.*'"),
    ({'augment.horizontal_flip': 0.5}, 'allows no augmentation'),
    ({'eval_crops': (1.0, 0.9)}, 'config.eval_crops=(1.0,)'),
    ({'dataset.test_split': 'train'}, "train_split='train' is evaluated too"),
    (
      {'dataset.validation_split': 'train'},
      "train_split='train' is evaluated too",
    ),
    (
      {'dataset.validation_split': '', 'dataset.fold': '1/5'},
      "validation_split='' trains without validation",
    ),
    (
      {'pretrained': 'efficientnet_lite1'},
      'config.model.efficientnet_lite.variant=1',
    ),
  ],
)
def test_conflicting_values_are_refused(changes, words):
  config_validation.validate(linear_probe())
  with pytest.raises(errors.InputError) as e:
    config_validation.validate(linear_probe(**changes))
  assert words in str(e.value)


@pytest.mark.parametrize(
  'height, width, expected',
  [(None, None, (64, 64)), (96, None, (96, 64)), (30, 20, (30, 20))],
)
def test_height_and_width_override_image_size(height, width, expected):
  config = make_config(image_size=64)
  config.image_height, config.image_width = height, width
  assert config_lib.image_shape(config) == expected


def compute_sizes(config, *, examples=1000, devices=1):
  return config_lib.compute_sizes(
    config, num_train_examples=examples, num_devices=devices
  )


def test_sizes_against_hand_computed_values():
  config = make_config(batch_size=64, num_epochs=10.0, eval_every_epochs=2.0)
  assert compute_sizes(config).num_train_steps == 6
  config.num_train_steps = None
  config.optimizer.warmup_epochs = 1.0
  sizes = compute_sizes(config, devices=8)
  assert sizes.per_device_batch_size == 8
  assert sizes.steps_per_epoch == 15.625
  assert sizes.num_train_steps == 156
  assert sizes.num_warmup_steps == 16
  assert sizes.eval_every_steps == 31
  # 156 steps: at 155 it would be evaluated just before the end.
  evaluated = [s for s in range(1, 157) if sizes.is_eval_step(s)]
  assert evaluated == [31, 62, 93, 124, 156]
  assert sizes.global_eval_batch_size == 64


@pytest.mark.parametrize(
  'schedule, expected', [('constant', 31), ('cosine', 8)]
)
def test_warm_up_longer_than_the_run(schedule, expected):
  config = make_config(batch_size=64, num_train_steps=8)
  config.optimizer.schedule = schedule
  config.optimizer.warmup_epochs = 2.0
  assert compute_sizes(config).num_warmup_steps == expected


def test_eval_batch_size_is_rounded_up_to_the_devices():
  config = make_config(eval_batch_size=5)
  assert compute_sizes(config, devices=8).global_eval_batch_size == 8


@pytest.mark.parametrize(
  'changes, message',
  [
    ({'batch_size': 50}, r'8 device.*= 16 examples.*is 48'),
    (
      {'batch_size': 48, 'micro_batch_size': 3, 'augment.mixup_alpha': 0.2},
      'blends pairs.*3 examples',
    ),
    (
      {'batch_size': 1008, 'micro_batch_size': 80},
      'batch_size=1008, lowered to 512, is not a multiple of 8 device',
    ),
  ],
)
def test_batch_size_that_does_not_fit_is_refused(changes, message):
  config = make_config(**{'micro_batch_size': 2, **changes})
  with pytest.raises(errors.InputError, match=message):
    compute_sizes(config, devices=8)


@pytest.mark.parametrize('devices', [1, 8])
def test_a_batch_larger_than_the_split_is_lowered(devices):
  config = make_config(batch_size=256, num_epochs=10.0)
  config.num_train_steps = None
  sizes = compute_sizes(config, examples=50, devices=devices)
  assert sizes.global_batch_size == 32
  assert sizes.num_train_steps == round(10 * 50 / 32)


def test_normalize_against_hand_computed_pixels():
  images = np.array([0, 127, 255], np.uint8).reshape(1, 1, 1, 3)
  preprocessing = config_lib.Preprocessing(1, 1, 127.0, 128.0)
  np.testing.assert_array_equal(
    preprocessing.normalize(images).ravel(), [-127 / 128, 0.0, 1.0]
  )


def test_unknown_keys_are_refused():
  config = make_config()
  with config.unlocked():
    config.augment.mirror = 0.5
    config.num_epoch = 3
  with pytest.raises(errors.InputError) as e:
    config_validation.validate(config)
  assert 'config.augment.mirror: no such key' in str(e.value)
  assert 'num_epoch: no such key; the nearest is config.num_epochs' in str(
    e.value
  )


def test_names_equal_the_tables_of_the_packages():
  """The config module lists names, and does not import the networks."""
  assert set(registry.MODELS) == set(config_validation.MODELS)
  assert tuple(registry.DTYPES) == config_validation.DTYPES
  assert tuple(convnext.SIZES) == config_validation.CONVNEXT_SIZES
  assert tuple(vit.SIZES) == config_validation.VIT_SIZES
  assert tuple(losses._ELEMENTWISE) == config_validation.LOSSES
  assert ('loss', *metrics.METRICS) == config_validation.VALIDATION_METRICS
  assert tuple(transformer.GELUS) == config_validation.VIT_GELUS


def test_a_stored_config_with_other_keys():
  config = make_config(eval_crops=(1.0, 0.9))
  config.loss.options = {'weights': {'Drama': 2.0}}
  stored = config_lib.to_dict(config)
  del stored['model']['tiny']['dropout_rate']
  stored['former'] = 3
  got = config_lib.from_dict(stored)
  assert got.eval_crops == (1.0, 0.9)
  assert got.model.tiny.dropout_rate == 0.1
  assert got.loss.options.weights.Drama == 2.0
  assert got.former == 3
