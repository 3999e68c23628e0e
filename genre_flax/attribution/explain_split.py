"""Where a network looked on a split, and how far the maps can be trusted."""

from collections.abc import Mapping, Sequence
import json
import sys
from typing import Any

from etils import epath
import numpy as np
import tqdm

from genre_flax.attribution import faithfulness
from genre_flax.attribution import map_files
from genre_flax.inference import scored_split as scored_lib
from genre_flax.runtime import files

FILE_NAME = 'faithfulness.json'
# Posters that the maps are judged on: the intervals are narrow enough.
_NUM_JUDGED = 100
_NUM_SHOWN = 24


def explain(
  scored: scored_lib.ScoredSplit, *, output: epath.Path, method: str | None
) -> str:
  """Writes maps of some posters, and judges the method.

  Args:
    scored: the split.
    output: folder for faithfulness.json, and for maps/.
    method: see `explain.Explainer`.

  Returns:
    What was found, as a table to read.

  Raises:
    InputError: the method does not fit the network.
    StorageError: `output` cannot be written to.
  """
  predictor = scored.predictor
  maps = map_files.MapFiles(predictor, output / map_files.FOLDER, method=method)
  posters = [
    map_files.Poster(scored.entry(i), scored.decode(i, predictor.image_shape))
    for i in scored.spread(_NUM_SHOWN)
  ]
  num_maps = len(maps.write(posters, first=0))
  judged = scored.spread(_NUM_JUDGED)
  found = _judge(
    predictor,
    np.stack([scored.decode(i, predictor.image_shape) for i in judged]),
    scored.scores[judged].argmax(axis=1),
    method=maps.method,
  )
  files.write_atomic(output / FILE_NAME, json.dumps(found, indent=2) + '\n')
  return '\n'.join(
    [
      f'Where it looked, on {len(judged)} posters, for the likeliest genre of'
      ' each:\n',
      *_table(found),
      '(the mean score while the pixels where a map is highest are taken away'
      ' first, or put back\nfirst; and the rank correlation with the maps of'
      ' shuffled weights)\n',
      f'Maps:          {output / map_files.FOLDER} ({num_maps} posters)',
    ]
  )


def _judge(predictor, images, genres, *, method) -> dict[str, dict[str, Any]]:
  with tqdm.tqdm(
    total=5,
    desc='Judging maps',
    unit=' parts',
    disable=not sys.stderr.isatty(),
  ) as bar:

    def progress(done):
      bar.set_postfix_str(done)
      bar.update()

    found = {
      name: {
        'deletion': float(worth.deletion.mean()),
        'insertion': float(worth.insertion.mean()),
      }
      for name, worth in faithfulness.compare(
        predictor, images, genres, methods=(method,), progress=progress
      ).items()
    }
    similarity = faithfulness.similarity_to_random_weights(
      predictor, images, genres, method=method
    )
    found[method]['shuffled_weights'] = (
      similarity if np.isfinite(similarity) else None
    )
    progress('shuffled weights')
  return found


def _table(found: Mapping[str, Mapping[str, float | None]]) -> Sequence[str]:
  columns = ('deletion', 'insertion', 'shuffled_weights')
  lines = [
    f'{"map":<16}{"deletion":>10}{"insertion":>11}{"shuffled weights":>18}',
    '-' * 55,
  ]
  for name, worth in found.items():
    first, second, third = (worth.get(column) for column in columns)
    shown = '-' if third is None else f'{third:.3f}'
    lines.append(f'{name:<16}{first:>10.3f}{second:>11.3f}{shown:>18}')
  return lines
