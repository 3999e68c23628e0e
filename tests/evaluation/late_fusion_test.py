"""Tests of the fit of late fusion."""

import numpy as np
import pytest
from scipy import special
from sklearn import linear_model

from genre_flax.evaluation import late_fusion
from genre_flax.models import text_branch

PRIOR = np.array([-1.0, -2.0, 0.5])


def cross_entropy(logits, labels):
  return (np.logaddexp(0, logits) - labels * logits).sum(axis=1)


def make_branches(scales, number=20_000):
  """Branches around the prior, and labels of their sum with some scales."""
  random = np.random.default_rng(0)
  parts = random.normal(size=(number, 2, 3))
  logits = PRIOR + (parts * np.asarray(scales)[:, None]).sum(axis=1)
  labels = random.uniform(size=logits.shape) < special.expit(logits)
  return (PRIOR + parts).astype(np.float32), labels.astype(np.float32)


@pytest.mark.parametrize('scales', [(1.0, 0.5), (0.4, 1.2), (1.0, 0.0)])
def test_scales_are_those_of_a_logistic_regression(scales):
  branches, labels = make_branches(scales)
  fusion = late_fusion.fit(
    branches, labels, prior_logits=PRIOR, loss_fn=cross_entropy
  )
  np.testing.assert_allclose(fusion[text_branch.SCALES], scales, atol=0.05)
  inputs = (branches - PRIOR).transpose(0, 2, 1).reshape(-1, 2)
  # The offset is known; scikit-learn fits it as a third coefficient.
  offset = np.tile(PRIOR, len(branches))[:, None]
  regression = linear_model.LogisticRegression(C=np.inf, fit_intercept=False)
  regression.fit(np.hstack([inputs, offset]), labels.ravel())
  np.testing.assert_allclose(
    fusion[text_branch.SCALES], regression.coef_[0, :2], atol=0.02
  )


def test_few_posters_leave_the_scales_near_one():
  branches, labels = make_branches((0.0, 0.0), number=2)
  fusion = late_fusion.fit(
    branches, labels, prior_logits=PRIOR, loss_fn=cross_entropy
  )
  np.testing.assert_allclose(fusion[text_branch.SCALES], 1, atol=0.5)


def test_the_prior_is_counted_once():
  fusion = text_branch.make_fusion((0.8, 0.6), prior_logits=PRIOR)
  branches = np.tile(PRIOR, (4, 2, 1))
  is_read = np.array([True, True, False, True])
  fused = text_branch.fuse(branches, fusion, has_text=is_read, xp=np)
  np.testing.assert_allclose(fused, np.tile(PRIOR, (4, 1)), rtol=1e-6)
