import numpy as np
import pytest

from configs import linear_probe as linear_probe_config
from genre_flax import config as config_lib
from genre_flax import config_rules
from genre_flax.runtime import errors
from genre_flax.training import resume
from tests.support import helpers


def make_config(**changes):
  return helpers.tiny_config('data', **changes)


@pytest.mark.parametrize(
  'key, value',
  [
    ('seed', -1),
    ('batch_size', 0),
    ('image_size', 8),
    ('image_height', 1),
    ('augment.crop_scale', 0.0),
    ('augment.horizontal_flip', 1.5),
    ('dataset.cache', 'tape'),
    ('model.name', 'vgg'),
    ('model.dtype', 'float16'),
    ('optimizer.name', 'lion'),
    ('optimizer.schedule', 'step'),
    ('optimizer.learning_rate', 0.0),
    ('optimizer.learning_rate', float('nan')),
    ('optimizer.clip_norm', -1.0),
    ('ema_decay', 1.0),
    ('eval_crops', ()),
    ('eval_crops', (1.0, 1.1)),
    ('eval_crops', (0.0,)),
    ('num_epochs', 0.0),
    ('log_every', 0),
  ],
)
def test_a_value_out_of_range_is_named_with_its_rule(key, value):
  with pytest.raises(errors.InputError) as e:
    config_rules.validate(make_config(**{key: value}))
  assert f'config.{key}={value!r}: must be ' in str(e.value)


def test_all_faults_are_named_at_once():
  with pytest.raises(errors.InputError) as e:
    config_rules.validate(make_config(batch_size=0, ema_decay=-1.0))
  assert 'config.batch_size=0' in str(e.value)
  assert 'config.ema_decay=-1.0' in str(e.value)


def test_data_comes_from_one_place():
  config_rules.validate(make_config())
  neither = make_config(**{'dataset.data_dir': ''})
  with pytest.raises(errors.InputError, match='genre_flax.prepare'):
    config_rules.validate(neither)
  both = make_config(**{'dataset.synthetic_posters': 10})
  with pytest.raises(errors.InputError, match='exclude each other'):
    config_rules.validate(both)


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
    ({'eval_crops': (1.0, 0.9)}, 'set config.eval_crops=(1.0,)'),
    (
      {'pretrained': 'efficientnet_lite1'},
      'config.model.efficientnet_lite.variant=1',
    ),
  ],
)
def test_values_that_exclude_each_other_are_named(changes, words):
  config_rules.validate(linear_probe())
  with pytest.raises(errors.InputError) as e:
    config_rules.validate(linear_probe(**changes))
  assert words in str(e.value)


@pytest.mark.parametrize(
  'height, width, expected',
  [(None, None, (64, 64)), (96, None, (96, 64)), (30, 20, (30, 20))],
)
def test_a_side_of_its_own_wins_over_image_size(height, width, expected):
  config = make_config(image_size=64)
  config.image_height, config.image_width = height, width
  assert config_lib.image_shape(config) == expected


def make_schedule(config, *, examples=1000, hosts=1, devices=1):
  return config_lib.make_schedule(
    config, num_train_examples=examples, num_hosts=hosts, num_devices=devices
  )


def test_schedule_worked_out_by_hand():
  config = make_config(batch_size=64, num_epochs=10.0, eval_every_epochs=2.0)
  config.num_train_steps = None
  config.optimizer.warmup_epochs = 1.0
  schedule = make_schedule(config, hosts=2, devices=8)
  assert schedule.per_host_batch_size == 32
  assert schedule.per_device_batch_size == 8
  assert schedule.steps_per_epoch == 15.625
  assert schedule.num_train_steps == 156
  assert schedule.num_warmup_steps == 16
  assert schedule.eval_every_steps == 31
  # 156 steps: at 155 it would be evaluated just before the end.
  evaluated = [s for s in range(1, 157) if schedule.is_eval_step(s)]
  assert evaluated == [31, 62, 93, 124, 156]
  assert schedule.global_eval_batch_size == 64


@pytest.mark.parametrize(
  'schedule, expected', [('constant', 31), ('cosine', 8)]
)
def test_a_run_shorter_than_its_warm_up(schedule, expected):
  config = make_config(batch_size=64, num_train_steps=8)
  config.optimizer.schedule = schedule
  config.optimizer.warmup_epochs = 2.0
  assert make_schedule(config).num_warmup_steps == expected


@pytest.mark.parametrize('devices', [1, 2])
def test_mixup_needs_pairs_in_each_part(devices):
  changes = {'augment.mixup_alpha': 0.2, 'batch_size': 6, 'accumulate_steps': 2}
  config = make_config(**changes)
  config.accumulate_steps //= devices
  with pytest.raises(errors.InputError, match='blends pairs.* parts of 3'):
    make_schedule(config, devices=devices)
  config.batch_size = 8
  make_schedule(config, devices=devices)


def test_a_number_of_steps_wins_over_epochs():
  assert make_schedule(make_config(num_train_steps=7)).num_train_steps == 7


def test_eval_batches_are_rounded_up_to_the_devices():
  config = make_config(eval_batch_size=5)
  assert make_schedule(config, devices=8).global_eval_batch_size == 8


def test_a_batch_that_does_not_divide_says_which_would():
  config = make_config(batch_size=50, accumulate_steps=2)
  with pytest.raises(errors.InputError, match=r'8 device.*= 16 equal.*= 48'):
    make_schedule(config, devices=8)


def test_a_batch_larger_than_the_split_is_refused():
  with pytest.raises(errors.InputError, match='more than the 10 posters'):
    make_schedule(make_config(batch_size=16), examples=10)


class TestResuming:
  def check(self, before, now):
    resume.check_resumable(config_lib.to_dict(before), now)

  def test_the_same_config_goes_on(self):
    self.check(make_config(), make_config())

  @pytest.mark.parametrize(
    'changes',
    [
      {'log_every': 7},
      {'dataset.cache': 'none', 'dataset.cache_dir': 'elsewhere'},
      {'dataset.data_dir': 'elsewhere'},
      {'checkpoint_every_steps': 3},
    ],
  )
  def test_what_does_not_change_the_run_may_change(self, changes):
    self.check(make_config(), make_config(**changes))

  def test_what_changes_the_run_is_named_with_both_values(self):
    changed = make_config(batch_size=32, **{'optimizer.learning_rate': 0.5})
    with pytest.raises(errors.InputError) as e:
      self.check(make_config(), changed)
    assert 'config.batch_size: 16 when the run was started, 32 now' in str(
      e.value
    )
    assert 'config.optimizer.learning_rate: 0.003' in str(e.value)

  def test_features_are_another_run(self):
    plain, features = {'dataset.cache': 'none'}, {'dataset.cache': 'features'}
    for before, now in ((plain, features), (features, plain)):
      with pytest.raises(errors.InputError, match=r'dataset\.cache'):
        self.check(make_config(**before), make_config(**now))

  def test_a_longer_run_is_another_run_unless_the_rate_is_constant(self):
    longer = {'num_train_steps': 12}
    with pytest.raises(errors.InputError, match='num_train_steps'):
      self.check(make_config(), make_config(**longer))
    constant = {'optimizer.schedule': 'constant'}
    self.check(make_config(**constant), make_config(**constant, **longer))

  def test_tuples_survive_json(self):
    features = {'model.tiny.features': (8, 16)}
    self.check(make_config(**features), make_config(**features))


def test_normalize_against_hand_computed_pixels():
  images = np.array([0, 127, 255], np.uint8).reshape(1, 1, 1, 3)
  preprocessing = config_lib.Preprocessing(1, 1, 127.0, 128.0)
  np.testing.assert_array_equal(
    preprocessing.normalize(images).ravel(), [-127 / 128, 0.0, 1.0]
  )
