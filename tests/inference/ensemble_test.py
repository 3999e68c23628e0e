"""Several networks as one predictor."""

import dataclasses

from etils import epath
import numpy as np
import pytest

from genre_flax.datasets.posters import synthetic
from genre_flax.evaluation import combinations
from genre_flax.evaluation import metrics
from genre_flax.inference import ensemble
from genre_flax.inference import image_files
from genre_flax.inference import predictor as predictor_lib
from genre_flax.inference import scored_split
from genre_flax.reports import summary
from genre_flax.runtime import errors
from genre_flax.training import train
from tests.support import helpers


@pytest.fixture(scope='module')
def members(data_dir, tmp_path_factory):
  """Two networks, of other sizes of images."""
  found = []
  for seed, width in ((0, 24), (1, 32)):
    folder = tmp_path_factory.mktemp('run')
    config = helpers.tiny_config(
      data_dir, num_train_steps=20, seed=seed, image_width=width
    )
    train.train(config, folder)
    found.append(predictor_lib.restore(folder))
  return tuple(found)


@pytest.fixture(scope='module')
def both(members):
  return ensemble.combine(members, origins=('a', 'b'))


def test_files_get_the_mean_of_the_scores(both, members, tmp_path):
  _, folder = synthetic.write_posters(tmp_path, num_posters=5, seed=3)
  (folder / 'synthetic00002.jpg').write_text('<html></html>')
  files = image_files.find([str(folder)])

  def of(predictor):
    return list(image_files.predict_files(predictor, files, batch_size=2))

  for together, one, other in zip(of(both), *map(of, members), strict=True):
    assert together.path == one.path == other.path
    assert together.error == one.error == other.error
    if one.error is None:
      assert np.abs(one.scores - other.scores).max() > 0.001
      np.testing.assert_allclose(
        together.scores, (one.scores + other.scores) / 2
      )
  assert [result.error is None for result in of(both)].count(False) == 1


def test_a_split_gets_the_mean_of_the_scores(both, members, dataset, tmp_path):
  def of(predictor):
    return scored_split.score_split(predictor, dataset, 'test', batch_size=8)

  together = of(both)
  expected = np.mean([of(member).scores for member in members], axis=0)
  np.testing.assert_allclose(together.scores, expected, atol=1e-7)
  found = summary.summarize(
    together, output=epath.Path(tmp_path), bootstrap_samples=0
  ).report
  steps = ' + '.join(str(member.step) for member in members)
  assert found['step'] == steps
  name = 'mean_average_precision'
  value = metrics.compute(expected, together.labels)[name][0]
  assert found['metrics'][name]['value'] == pytest.approx(value, abs=1e-9)


def test_it_decides_at_the_mean_of_the_thresholds(both, members):
  for point, thresholds in both.calibration.thresholds.items():
    expected = np.mean(
      [member.calibration.thresholds[point] for member in members], axis=0
    )
    np.testing.assert_allclose(thresholds, expected)


def with_combinations(member, combinations):
  changed = dataclasses.replace(member.calibration, combinations=combinations)
  return dataclasses.replace(member, calibration=changed)


def test_combinations_count_where_all_know_the_same(members):
  counts = [((0,), 3), ((1,), 2), ((0, 1), 1)]

  def make(counts, sharpness, weight):
    return combinations.from_counts(
      counts,
      num_genres=len(members[0].genres),
      sharpness=sharpness,
      weight=weight,
    )

  def of(*each):
    found = tuple(map(with_combinations, members, each))
    return ensemble.Ensemble(found).calibration.combinations

  one, other = make(counts, 0.5, 0.2), make(counts, 0.7, 0.6)
  for both in (of(one, other), of(other, one)):
    np.testing.assert_array_equal(both.members, one.members)
    assert both.sharpness == pytest.approx(0.6)
    assert both.weight == pytest.approx(0.4)
  assert of(one, None) is None
  assert of(None, one) is None
  assert of(one, make(counts[:2], 0.5, 0.2)) is None


def test_one_is_that_one(members):
  assert ensemble.combine(members[:1], origins=('a',)) is members[0]


def test_a_sure_mean_stays_finite():
  assert np.isfinite(np.log(1 - ensemble.mean_scores([np.ones(3)]))).all()


def test_other_members_are_another_predictor(both, members):
  other = ensemble.combine(members[::-1], origins=('b', 'a'))
  assert both.checksum() != other.checksum()
  assert both.checksum() != members[0].checksum()


def test_genres_must_be_the_same(members):
  genres = ('Noir', *members[1].genres[1:])
  other = dataclasses.replace(members[1], genres=genres)
  with pytest.raises(errors.InputError) as raised:
    ensemble.combine((members[0], other), origins=('a', 'b'))
  assert f"lacks ['{members[0].genres[0]}'] and adds ['Noir']" in str(
    raised.value
  )


def test_other_data_is_warned_of(members, caplog):
  other = dataclasses.replace(members[1], fingerprint='other')
  ensemble.combine((members[0], other), origins=('a', 'b'))
  assert 'networks of a and b were trained on different data' in caplog.text
