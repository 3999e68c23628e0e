"""The maps that top3 --explain writes, of files and of a split."""

import json

from etils import epath
import numpy as np
from PIL import Image
import pytest

from genre_flax.attribution import explain_split
from genre_flax.attribution import map_files
from genre_flax.datasets.posters import synthetic
from genre_flax.inference import image_files
from genre_flax.inference import predictor as predictor_lib
from genre_flax.inference import scored_split
from genre_flax.training import train
from tests.support import helpers


@pytest.fixture(scope='module')
def predictor(data_dir, tmp_path_factory):
  folder = tmp_path_factory.mktemp('run')
  train.train(helpers.tiny_config(data_dir), folder)
  return predictor_lib.restore(folder)


def test_a_split_gets_maps_and_what_they_are_worth(
  predictor, dataset, tmp_path
):
  text = explain_split.explain(
    scored_split.score_split(predictor, dataset, 'test', batch_size=8),
    output=epath.Path(tmp_path),
    method=None,
  )
  pictures = sorted((tmp_path / 'maps').iterdir())
  assert len(pictures) == 12
  with Image.open(pictures[0]) as picture:
    assert picture.size == (4 * (180 + 14) + 14, 264 + 28 + 20)
  stored = json.loads((tmp_path / 'faithfulness.json').read_text())
  names = ['grad_cam', 'random map', 'centred blob']
  assert list(stored) == names
  for name in names:
    assert name in text
    assert f'{stored[name]["deletion"]:.3f}' in text


def test_files_get_maps_by_the_rows_of_the_table(predictor, tmp_path):
  _, folder = synthetic.write_posters(tmp_path, num_posters=4, seed=3)
  (folder / 'synthetic00001.jpg').write_text('no image')
  (folder / 'synthetic00002.jpg').rename(folder / 'a <b> & "c".jpg')
  output = epath.Path(tmp_path / 'out')
  status = image_files.name_genres(
    predictor,
    [str(folder)],
    output=output,
    batch_size=8,
    explain=True,
    explain_by='grad_cam',
  )
  assert status == 1
  rows = (output / 'predictions.csv').read_text().splitlines()[1:]
  written = sorted(path.name for path in (output / 'maps').iterdir())
  assert written == [
    '00000_a_b_c_.png',
    '00001_synthetic00000.png',
    '00002_synthetic00003.png',
  ]
  assert len(rows) == len(written)


def test_maps_differ_between_posters_and_genres(predictor, dataset, tmp_path):
  split = scored_split.score_split(predictor, dataset, 'test', batch_size=8)
  maps = map_files.MapFiles(predictor, epath.Path(tmp_path), method=None)
  posters = [
    map_files.Poster(split.entry(i), split.decode(i, predictor.image_shape))
    for i in range(2)
  ]
  one, other = (
    np.asarray(Image.open(path)) for path in maps.write(posters, first=7)
  )
  assert (tmp_path / f'00008_{split.ids[1]}.png').exists()
  assert (one != other).any()
