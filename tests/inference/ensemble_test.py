"""Tests of ensembles."""

import dataclasses

import numpy as np
import pytest

from genre_flax.datasets.posters import synthetic
from genre_flax.evaluation import label_sets
from genre_flax.inference import ensemble
from genre_flax.inference import image_files
from genre_flax.inference import predictor as predictor_lib
from genre_flax.inference import scored_split
from genre_flax.reports import split_metrics
from genre_flax.runtime import errors
from genre_flax.training import train
from tests.support import helpers


@pytest.fixture(scope='module')
def members(trained_predictor, data_dir, tmp_path_factory):
  """Two networks with different image sizes."""
  folder = tmp_path_factory.mktemp('run')
  config = helpers.tiny_config(
    data_dir, num_train_steps=20, seed=1, image_width=32
  )
  train.train(config, folder)
  return trained_predictor, predictor_lib.restore(folder)


@pytest.fixture(scope='module')
def both(members):
  return ensemble.combine(members, origins=('a', 'b'))


def test_scores_of_files_are_means(both, members, tmp_path):
  _, folder = synthetic.write_posters(tmp_path, num_posters=5, seed=3)
  (folder / 'synthetic00002.jpg').write_text('<html></html>')
  files = image_files.find([str(folder)])

  def predict(predictor):
    return list(image_files.predict_files(predictor, files, batch_size=2))

  for joint, one, other in zip(
    predict(both), *map(predict, members), strict=True
  ):
    assert joint.path == one.path == other.path
    assert joint.error == one.error == other.error
    assert (joint.error is None) == (joint.path != files[2])
    if one.error is None:
      assert np.abs(one.scores - other.scores).max() > 0.001
      np.testing.assert_allclose(joint.scores, (one.scores + other.scores) / 2)


def test_scores_of_splits_are_means(both, members, dataset):
  def score(predictor):
    return scored_split.score_split(predictor, dataset, 'test', batch_size=8)

  joint = score(both)
  expected = np.mean([score(member).scores for member in members], axis=0)
  np.testing.assert_allclose(joint.scores, expected, atol=1e-7)
  report = split_metrics.make_report(joint, bootstrap_samples=0)
  assert report['step'] == ' + '.join(str(member.step) for member in members)


def test_thresholds_are_means(both, members):
  for point, thresholds in both.calibration.thresholds.items():
    expected = np.mean(
      [member.calibration.thresholds[point] for member in members], axis=0
    )
    np.testing.assert_allclose(thresholds, expected)


def test_label_sets_are_used_if_all_are_equal(members):
  counts = [((0,), 3), ((1,), 2), ((0, 1), 1)]

  def make(counts, sharpness, weight):
    return label_sets.from_counts(
      counts,
      num_genres=len(members[0].genres),
      sharpness=sharpness,
      weight=weight,
    )

  def combine(*priors):
    changed = [
      dataclasses.replace(
        member,
        calibration=dataclasses.replace(member.calibration, label_sets=prior),
      )
      for member, prior in zip(members, priors, strict=True)
    ]
    return ensemble.Ensemble(tuple(changed)).calibration.label_sets

  one, other = make(counts, 0.5, 0.2), make(counts, 0.7, 0.6)
  for mean in (combine(one, other), combine(other, one)):
    np.testing.assert_array_equal(mean.members, one.members)
    assert mean.sharpness == pytest.approx(0.6)
    assert mean.weight == pytest.approx(0.4)
  assert combine(one, None) is None
  assert combine(None, one) is None
  assert combine(one, make(counts[:2], 0.5, 0.2)) is None


def test_single_member_is_returned_as_it_is(members):
  assert ensemble.combine(members[:1], origins=('a',)) is members[0]


def test_different_genres_are_rejected(members):
  genres = ('Noir', *members[1].genres[1:])
  other = dataclasses.replace(members[1], genres=genres)
  with pytest.raises(errors.InputError) as raised:
    ensemble.combine((members[0], other), origins=('a', 'b'))
  assert f"missing ['{members[0].genres[0]}'], extra ['Noir']" in str(
    raised.value
  )


def test_different_datasets_are_a_warning(members, caplog):
  other = dataclasses.replace(members[1], fingerprint='other')
  ensemble.combine((members[0], other), origins=('a', 'b'))
  assert 'a and b were trained on different datasets' in caplog.text
