import numpy as np
import pytest

from genre_flax.models import params
from genre_flax.runtime import errors

TREE = {
  'stem': {'kernel': np.ones((2, 3)), 'bias': np.ones(3)},
  'block': {'norm': {'scale': np.ones(3)}},
  'head': {'kernel': np.ones((3, 4)), 'bias': np.ones(4)},
}
STATS = {'block': {'norm': {'mean': np.zeros(3)}}}


def scaled(tree, factor):
  if isinstance(tree, dict):
    return {name: scaled(value, factor) for name, value in tree.items()}
  return tree * factor


def variables(factor=1.0, **changes):
  tree = {**scaled(TREE, factor), **changes}
  return {'params': tree, 'batch_stats': scaled(STATS, factor)}


@pytest.mark.parametrize(
  'pattern, expected',
  [
    ('.*', 5),
    ('head/.*', 2),
    ('.*/kernel', 2),
    ('(?!.*norm).*', 4),
    ('head', 0),
  ],
)
def test_a_pattern_must_match_the_whole_path(pattern, expected):
  trained, fixed = params.split(TREE, pattern)
  assert len(trained) == expected
  assert len(fixed) == 5 - expected


def test_merge_undoes_split():
  trained, fixed = params.split(TREE, 'head/.*')
  assert params.merge(trained, fixed) == TREE


def test_a_pattern_that_matches_nothing_is_refused():
  params.check_pattern(TREE, 'head/.*')
  with pytest.raises(errors.InputError, match="'heads.*' matches no parameter"):
    params.check_pattern(TREE, 'heads.*')
  with pytest.raises(errors.InputError, match='not a regular expression'):
    params.check_pattern(TREE, '(')


class TestGraft:
  def graft(self, source, *, with_head=False, own=None):
    return params.graft(
      own or variables(), source, origin='a source', with_head=with_head
    )

  def test_the_backbone_is_taken_and_the_head_is_not(self):
    got = self.graft(variables(7.0))
    assert (got['params']['stem']['kernel'] == 7).all()
    assert (got['params']['head']['kernel'] == 1).all()

  def test_the_head_is_taken_where_it_is_asked_for(self):
    got = self.graft(variables(7.0), with_head=True)
    assert (got['params']['head']['kernel'] == 7).all()

  def test_a_head_of_another_size_does_not_matter_for_the_backbone(self):
    other = variables(7.0, head={'kernel': np.ones((3, 9))})
    self.graft(other)
    with pytest.raises(errors.InputError, match=r'\(3, 9\), expected \(3, 4\)'):
      self.graft(other, with_head=True)

  def test_what_is_missing_extra_or_of_another_shape_is_listed(self):
    other = variables(
      stem={'kernel': np.ones((2, 5))}, extra={'kernel': np.ones(1)}
    )
    own = variables()
    with pytest.raises(errors.InputError) as e:
      self.graft(other, own=own)
    message = str(e.value)
    assert 'a source does not fit' in message
    assert 'missing: stem/bias' in message
    assert 'extra: extra/kernel' in message
    assert 'stem/kernel is (2, 5), expected (2, 3)' in message
    assert (own['params']['stem']['kernel'] == 1).all()


def test_the_heads_bias_gives_the_prior():
  prior = np.array([0.5, 0.1, 0.0, 1.0])
  got = params.with_prior_bias(TREE, prior)['head']['bias']
  scores = 1 / (1 + np.exp(-got))
  np.testing.assert_allclose(scores, [0.5, 0.1, 1e-4, 1 - 1e-4], rtol=1e-4)
