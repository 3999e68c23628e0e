import jax
import numpy as np
import pytest

from genre_flax.models import initialization
from genre_flax.models import params
from genre_flax.runtime import errors

TREE = {
  'stem': {'kernel': np.ones((2, 3)), 'bias': np.ones(3)},
  'block': {'norm': {'scale': np.ones(3)}},
  'head': {'kernel': np.ones((3, 4)), 'bias': np.ones(4)},
}
STATS = {'block': {'norm': {'mean': np.zeros(3)}}}


def variables(factor=1.0, **changes):
  tree = jax.tree.map(lambda array: factor * array, TREE)
  return {'params': {**tree, **changes}, 'batch_stats': STATS}


@pytest.mark.parametrize(
  ('pattern', 'num_trained'),
  [('.*', 5), ('head/.*', 2), ('.*/kernel', 2), ('(?!.*norm).*', 4)],
)
def test_split_matches_the_whole_path(pattern, num_trained):
  trained, frozen = params.split(TREE, pattern)
  assert len(trained) == num_trained
  assert len(frozen) == 5 - num_trained
  assert params.merge(trained, frozen) == TREE


@pytest.mark.parametrize(
  ('pattern', 'message'),
  [
    ('heads.*', "'heads.*' matches no parameter"),
    ('head', 'matches no parameter'),
    ('(', 'not a regular expression'),
  ],
)
def test_invalid_patterns_raise_an_error(pattern, message):
  with pytest.raises(errors.InputError, match=message):
    params.check_pattern(TREE, pattern)


def merge(pretrained, *, with_head=False, own=None):
  return initialization.merge_pretrained(
    own or variables(), pretrained, origin='a source', with_head=with_head
  )


def test_variables_are_replaced():
  merged = merge(variables(7.0), with_head=True)
  assert (merged['params']['head']['kernel'] == 7).all()
  # The head can have another size if it is not replaced.
  other = variables(7.0, head={'kernel': np.ones((3, 9))})
  merged = merge(other)
  assert (merged['params']['stem']['kernel'] == 7).all()
  assert (merged['params']['head']['kernel'] == 1).all()
  assert merged['batch_stats'].keys() == STATS.keys()
  with pytest.raises(errors.InputError, match=r'\(3, 9\), expected \(3, 4\)'):
    merge(other, with_head=True)


def test_errors_list_missing_extra_and_mismatched_variables():
  other = variables(
    stem={'kernel': np.ones((2, 5))}, extra={'kernel': np.ones(1)}
  )
  own = variables()
  with pytest.raises(errors.InputError) as e:
    merge(other, own=own)
  message = str(e.value)
  assert 'a source does not fit' in message
  assert 'missing: stem/bias' in message
  assert 'extra: extra/kernel' in message
  assert 'stem/kernel is (2, 5), expected (2, 3)' in message
  assert (own['params']['stem']['kernel'] == 1).all()


def test_the_bias_of_the_head_gives_the_prior():
  prior = np.array([0.5, 0.1, 0.0, 1.0])
  variables = {'params': {**TREE, 'text': TREE['head']}, 'batch_stats': {}}
  params = initialization.with_prior_bias(variables, prior)['params']
  bias = params['head']['bias']
  np.testing.assert_array_equal(params['text']['bias'], bias)
  scores = 1 / (1 + np.exp(-bias))
  np.testing.assert_allclose(scores, [0.5, 0.1, 1e-4, 1 - 1e-4], rtol=1e-4)
