import pytest

from benchmarks import libraries
from configs import default
from configs import finetune
from genre_flax.runtime import errors

MISSING = "not installed: timm; pip install -e '.[bench]'"
ALL = ('keras', 'tensorflow', 'torch', 'timm')


@pytest.mark.parametrize(
  ('network', 'installed', 'requested', 'chosen', 'reasons'),
  [
    ('poster_cnn', ALL, None, ['keras', 'torch'], {}),
    ('poster_cnn', ALL, [], [], {}),
    ('poster_cnn', ALL[:2], ['keras'], ['keras'], {}),
    ('vit', ALL[:3], None, [], {'keras': 'vit is missing', 'torch': MISSING}),
  ],
)
def test_available_libraries_are_chosen(
  monkeypatch, network, installed, requested, chosen, reasons
):
  monkeypatch.setattr(
    libraries.importlib.util,
    'find_spec',
    lambda name: object() if name in installed else None,
  )
  found, skipped = libraries.choose(requested, network=network)
  assert found == chosen
  assert skipped.keys() == reasons.keys()
  for name, reason in reasons.items():
    assert skipped[name].startswith(reason)


@pytest.mark.parametrize(
  ('name', 'message'),
  [
    ('torch', 'torch is unavailable: not installed: torch, timm'),
    ('mxnet', 'mxnet is unavailable: expected one of keras, torch'),
  ],
)
def test_requested_library_must_be_available(monkeypatch, name, message):
  monkeypatch.setattr(libraries.importlib.util, 'find_spec', lambda _: None)
  with pytest.raises(errors.InputError, match=message):
    libraries.choose([name], network='poster_cnn')


def test_features_of_genre_flax_alone_are_turned_off():
  config = finetune.get_config().lock()
  changed = libraries.use_common_values(config)
  assert config.ema_decay == 0
  assert config.optimizer.clip_norm is None
  assert config.dataset.cache == 'none'
  assert config.augment.crop_scale == 1
  assert {'ema_decay', 'eval_crops', 'augment.crop_scale'} <= set(changed)
  assert 'augment.horizontal_flip' not in changed  # It was off.
  assert libraries.use_common_values(config) == []


def test_frozen_parameters_are_kept_only_where_all_can_freeze():
  config = finetune.get_config().lock()
  assert 'trainable' not in libraries.use_common_values(config)
  config.model.name = 'poster_cnn'
  assert libraries.use_common_values(config) == ['trainable']
  assert config.trainable == '.*'
  # An unknown key would raise.
  libraries.use_common_values(default.get_config().lock())
