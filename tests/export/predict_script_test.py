"""predict.py of an export predicts the same genres as top3."""

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

# Packages that the script must not import.
_BLOCKED = ('genre_flax', 'jax', 'jaxlib', 'flax', 'scipy', 'absl', 'etils')


@pytest.fixture(scope='module')
def posters(tmp_path_factory):
  """Image files of many formats."""
  folder = tmp_path_factory.mktemp('posters')
  images = [synthetic.draw_poster(i, seed=9)[0] for i in range(8)]
  large = images[0].resize((1003, 1507))
  large.save(folder / 'large.jpg', quality=90)
  exif = Image.Exif()
  exif[0x0112] = 6
  rotated = large.transpose(Image.Transpose.ROTATE_90)
  rotated.save(folder / 'rotated.jpg', exif=exif)
  images[1].convert('CMYK').save(folder / 'cmyk.jpg')
  images[2].save(folder / 'rgb.png')
  images[3].quantize(32).save(folder / 'palette.gif', transparency=3)
  images[4].resize((900, 700)).save(folder / 'wide.webp')
  images[5].convert('L').save(folder / 'gray.png')
  transparent = images[6].convert('RGBA')
  transparent.putalpha(images[7].convert('L'))
  transparent.save(folder / 'transparent.png')
  gray16 = np.asarray(images[7].convert('L'), np.uint16) * 257
  Image.fromarray(gray16).save(folder / 'gray16.png')
  return sorted(epath.Path(folder).iterdir())


def run(folder, *arguments, tmp_path):
  """Runs Python in the folder with all other packages blocked."""
  for name in _BLOCKED:
    (tmp_path / f'{name}.py').write_text('raise ImportError("blocked")')
  return subprocess.run(
    [sys.executable, *map(str, arguments)],
    cwd=folder,
    env={
      **os.environ,
      'PYTHONPATH': str(tmp_path),
      'PYTHONDONTWRITEBYTECODE': '1',
    },
    capture_output=True,
    text=True,
    timeout=120,
    check=False,
  )


def test_scores_equal_top3(onnx_folder, predictor, posters, tmp_path):
  if paths.REAL_POSTERS.exists():
    real = epath.Path(paths.REAL_POSTERS) / 'Images'
    posters = [*posters, *sorted(real.glob('*.jpg'))[:1000:50]]
  code = (
    'import json, sys, predict\n'
    "model = predict.Model('.')\n"
    'print(json.dumps([model.predict(path) for path in sys.argv[1:]]))'
  )
  result = run(onnx_folder, '-c', code, *posters, tmp_path=tmp_path)
  expected = image_files.predict_files(predictor, posters, batch_size=16)
  for actual, one in zip(json.loads(result.stdout), expected, strict=True):
    assert len(actual) == len(predictor.genres)
    scores = dict(actual)
    np.testing.assert_allclose(
      [scores[genre] for genre in predictor.genres], one.scores, atol=1e-3
    )


def test_unreadable_files_are_reported(
  onnx_folder, predictor, posters, tmp_path
):
  folder = tmp_path / 'unreadable'
  folder.mkdir()
  (folder / 'page.jpg').write_text('<html>')
  (folder / 'empty.png').write_bytes(b'')
  (folder / 'truncated.jpg').write_bytes(posters[4].read_bytes()[:200])
  Image.new('RGB', (40, 60)).save(folder / 'bitmap.jpg', 'BMP')
  Image.new('1', (9000, 9000)).save(folder / 'bomb.png')
  os.mkfifo(folder / 'pipe.jpg')
  (folder / 'link.jpg').symlink_to('missing')
  files = sorted(folder.iterdir())
  files += [posters[0], 'a\x1b[2J.jpg']
  result = run(onnx_folder, 'predict.py', *files, tmp_path=tmp_path)
  assert result.returncode == 1
  [one] = image_files.predict_files(predictor, posters[:1], batch_size=8)
  line = split_metrics.format_top3(str(one.path), one.scores, predictor.genres)
  assert result.stdout.splitlines() == [line]
  lines = result.stderr.splitlines()
  assert len(lines) == len(files) - 1
  assert all(line.startswith('error: ') for line in lines)
  assert r'a\x1b[2J.jpg' in result.stderr and '\x1b' not in result.stderr
