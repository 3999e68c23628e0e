import sys

import pytest

from genre_flax.runtime import custom
from genre_flax.runtime import errors


@pytest.fixture
def my_code(tmp_path, monkeypatch):
  (tmp_path / 'my_code.py').write_text(
    'NUMBER = 3\n'
    'def add(a, b):\n  return a + b\n'
    'class Outer:\n  class Inner:\n    pass\n'
  )
  (tmp_path / 'needs_more.py').write_text('import not_installed_anywhere\n')
  monkeypatch.syspath_prepend(tmp_path)
  yield
  sys.modules.pop('my_code', None)


def test_a_name_with_a_colon_is_ones_own():
  assert custom.is_custom('my_nets:WideNet')
  assert not custom.is_custom('resnet')


def test_what_it_names_is_called_with_arguments_and_options(my_code):
  got = custom.call('my_code:add', key='loss.name', options={'b': 2}, a=1)
  assert got == 3
  assert custom.load('my_code:Outer.Inner', key='k').__name__ == 'Inner'


@pytest.mark.parametrize(
  'name, message',
  [
    ('no_such_module:f', "'no_such_module' cannot be imported"),
    ('needs_more:f', 'not_installed_anywhere'),
    ('my_code:missing', 'no attribute.*it has.*Outer.*add'),
    ('my_code:', 'no attribute'),
    (':add', 'module:attribute'),
    ('my_code:NUMBER', "'int' and cannot be called"),
    ('my_code:add', r"arguments \['a'\] and the options \{'c': 1\}.*'c'"),
  ],
)
def test_what_is_wrong_is_said(my_code, name, message):
  with pytest.raises(errors.InputError, match=message) as e:
    custom.call(name, key='model.name', options={'c': 1}, a=1)
  assert 'config.model.name' in str(e.value)
