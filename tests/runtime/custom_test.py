import sys

import pytest

from genre_flax.runtime import custom
from genre_flax.runtime import errors


@pytest.fixture
def own_code(tmp_path, monkeypatch):
  (tmp_path / 'own_code.py').write_text(
    'NUMBER = 3\ndef add(a, b):\n  return a + b\ndef one(c):\n  return c\n'
  )
  monkeypatch.syspath_prepend(tmp_path)
  yield
  sys.modules.pop('own_code', None)


def test_call_passes_arguments_and_options(own_code):
  assert custom.call('own_code:add', key='k', options={'b': 2}, a=1) == 3


@pytest.mark.parametrize(
  'name, message',
  [
    ('no_such_module:f', "No module named 'no_such_module'"),
    ('own_code:missing', "no attribute 'missing'"),
    ('own_code:', 'of type module; expected'),
    (':add', 'module:attribute'),
    ('own_code:NUMBER', 'of type int; expected'),
    (
      'own_code:add',
      r"'own_code:add' has .*'b'\], and not\n  config.model.options.c",
    ),
    ('own_code:one', r"arguments \['a'\] and the options \{'c': 1\}.*'a'"),
  ],
)
def test_errors_name_the_key_and_the_cause(own_code, name, message):
  with pytest.raises(errors.InputError, match=message) as e:
    custom.call(name, key='model.name', options={'c': 1}, a=1)
  assert f"'{name}'" in str(e.value)
