"""predict.py of an export: alone it names what `top3` names."""

import io
import json
import os
import subprocess
import sys

from etils import epath
import numpy as np
from PIL import Image
import pytest

from genre_flax.datasets.posters import synthetic
from genre_flax.inference import image_files
from genre_flax.reports import split_metrics
from tests.support import paths

# Stands where Python looks first, for what it may not import.
_BLOCKED = ('genre_flax', 'jax', 'jaxlib', 'flax', 'scipy', 'absl', 'etils')


@pytest.fixture(scope='module')
def posters(tmp_path_factory):
  """Image files of many kinds."""
  folder = tmp_path_factory.mktemp('posters')
  drawn = [synthetic.draw_poster(i, seed=9)[0] for i in range(8)]
  large = drawn[0].resize((1003, 1507))
  large.save(folder / 'large.jpg', quality=90)
  turned = Image.Exif()
  turned[0x0112] = 6
  rotated = large.transpose(Image.Transpose.ROTATE_90)
  rotated.save(folder / 'turned.jpg', exif=turned)
  drawn[1].convert('CMYK').save(folder / 'cmyk.jpg')
  drawn[2].save(folder / 'a.png')
  drawn[3].quantize(32).save(folder / 'palette.gif', transparency=3)
  drawn[4].resize((900, 700)).save(folder / 'wide.webp')
  drawn[5].convert('L').save(folder / 'grey.png')
  clear = drawn[6].convert('RGBA')
  clear.putalpha(drawn[7].convert('L'))
  clear.save(folder / 'clear.png')
  deep = np.asarray(drawn[7].convert('L'), np.uint16) * 257
  Image.fromarray(deep).save(folder / 'deep.png')
  return sorted(epath.Path(folder).iterdir())


def run(folder, *files, tmp_path):
  """Runs predict.py where only what it needs can be imported."""
  for name in _BLOCKED:
    (tmp_path / f'{name}.py').write_text('raise ImportError("blocked")')
  return subprocess.run(
    [sys.executable, folder / 'predict.py', *map(str, files)],
    cwd=tmp_path,
    env={**os.environ, 'PYTHONPATH': str(tmp_path)},
    capture_output=True,
    text=True,
    timeout=120,
    check=False,
  )


def test_names_what_top3_names(onnx_folder, predictor, posters, tmp_path):
  result = run(onnx_folder, *posters, tmp_path=tmp_path)
  assert result.returncode == 0, result.stderr
  expected = [
    split_metrics.format_top3(str(one.path), one.scores, predictor.genres)
    for one in image_files.predict_files(predictor, posters, batch_size=16)
  ]
  assert result.stdout.splitlines() == expected


def test_scores_are_those_of_top3(onnx_folder, predictor, posters, tmp_path):
  code = (
    'import json, sys, predict\n'
    "model = predict.Model('.')\n"
    'print(json.dumps([model.name_genres(f) for f in sys.argv[1:]]))'
  )
  result = subprocess.run(
    [sys.executable, '-c', code, *map(str, posters)],
    cwd=onnx_folder,
    capture_output=True,
    text=True,
    timeout=120,
    check=True,
  )
  named = json.loads(result.stdout)
  found = image_files.predict_files(predictor, posters, batch_size=16)
  for ours, theirs in zip(found, named, strict=True):
    assert len(theirs) == len(predictor.genres)
    theirs = dict(theirs)
    np.testing.assert_allclose(
      [theirs[genre] for genre in predictor.genres], ours.scores, atol=1e-3
    )


@pytest.mark.skipif(
  not paths.REAL_POSTERS.exists(), reason='the real posters are not here'
)
def test_names_what_top3_names_on_real_posters(
  onnx_folder, predictor, tmp_path
):
  folder = epath.Path(paths.REAL_POSTERS) / 'Images'
  files = sorted(folder.glob('*.jpg'))[:1000:50]
  result = run(onnx_folder, *files, tmp_path=tmp_path)
  expected = [
    split_metrics.format_top3(str(one.path), one.scores, predictor.genres)
    for one in image_files.predict_files(predictor, files, batch_size=16)
  ]
  assert result.stdout.splitlines() == expected


def test_what_is_no_image_is_told_and_the_others_go_on(
  onnx_folder, posters, tmp_path
):
  bad = tmp_path / 'bad'
  bad.mkdir()
  (bad / 'page.jpg').write_text('<html>')
  (bad / 'empty.png').write_bytes(b'')
  (bad / 'cut.jpg').write_bytes(posters[4].read_bytes()[:200])
  (bad / 'bmp.jpg').write_bytes(_bitmap())
  (bad / 'bomb.png').write_bytes(_bomb())
  os.mkfifo(bad / 'pipe.jpg')
  (bad / 'nothing.jpg').symlink_to('gone')
  files = sorted(bad.iterdir())
  result = run(
    onnx_folder, *files, posters[0], 'a\x1b[2J.jpg', tmp_path=tmp_path
  )
  assert result.returncode == 1
  assert len(result.stdout.splitlines()) == 1
  told = result.stderr.splitlines()
  assert len(told) == len(files) + 1
  assert all(line.startswith('error: ') for line in told)
  assert r'a\x1b[2J.jpg' in result.stderr and '\x1b' not in result.stderr


def _bitmap():
  content = io.BytesIO()
  Image.new('RGB', (40, 60)).save(content, 'BMP')
  return content.getvalue()


def _bomb():
  content = io.BytesIO()
  Image.new('1', (9000, 9000)).save(content, 'PNG')
  return content.getvalue()
