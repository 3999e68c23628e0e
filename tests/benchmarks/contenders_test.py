import pytest

from benchmarks import contenders
from configs import default
from configs import finetune
from genre_flax.runtime import errors


def pretend_installed(monkeypatch, *packages):
  monkeypatch.setattr(
    contenders.importlib.util,
    'find_spec',
    lambda name: object() if name in packages else None,
  )


def test_a_peer_that_is_not_installed_is_left_out_with_what_to_type(
  monkeypatch,
):
  pretend_installed(monkeypatch, 'keras', 'torch')
  chosen, left_out = contenders.choose(None, network='poster_cnn')
  assert chosen == ['torch']
  assert list(left_out) == ['keras']
  assert 'not installed: tensorflow' in left_out['keras']
  assert "pip install -e '.[bench]'" in left_out['keras']


def test_a_peer_that_is_asked_for_must_be_there(monkeypatch):
  pretend_installed(monkeypatch, 'keras', 'tensorflow')
  assert contenders.choose(['keras'], network='poster_cnn') == (['keras'], {})
  with pytest.raises(errors.InputError, match='torch .*not installed: torch'):
    contenders.choose(['keras', 'torch'], network='poster_cnn')
  with pytest.raises(errors.InputError, match='not one of keras, torch'):
    contenders.choose(['mxnet'], network='poster_cnn')


def test_a_peer_without_the_network_is_left_out(monkeypatch):
  pretend_installed(monkeypatch, 'keras', 'tensorflow', 'torch')
  chosen, left_out = contenders.choose(None, network='efficientnet_lite')
  assert chosen == ['torch']
  assert 'efficientnet_lite is not written for it' in left_out['keras']


def test_networks_of_timm_need_timm(monkeypatch):
  pretend_installed(monkeypatch, 'keras', 'tensorflow', 'torch')
  chosen, left_out = contenders.choose(None, network='vit')
  assert not chosen
  assert left_out['torch'].startswith('not installed: timm; ')
  assert 'vit is not written for it' in left_out['keras']


def test_no_peers_can_be_asked_for():
  assert contenders.choose([], network='poster_cnn') == ([], {})


def test_what_peers_do_not_do_is_turned_off_and_told():
  config = finetune.get_config().lock()
  changed = contenders.set_terms(config)
  assert config.ema_decay == 0
  assert config.optimizer.clip_norm is None
  assert config.dataset.cache == 'none'
  assert config.augment.crop_scale == 1
  assert {'ema_decay', 'eval_crops', 'augment.crop_scale'} <= set(changed)
  assert 'augment.horizontal_flip' not in changed  # It was off.
  assert contenders.set_terms(config) == []


def test_what_is_frozen_stays_so_where_the_peers_can():
  config = finetune.get_config().lock()
  trainable = config.trainable
  contenders.set_terms(config)
  assert config.trainable == trainable
  config.model.name = 'poster_cnn'
  assert 'trainable' in contenders.set_terms(config)
  assert config.trainable == '.*'


def test_terms_are_keys_of_the_config():
  config = default.get_config().lock()
  contenders.set_terms(config)  # An unknown key would raise.
