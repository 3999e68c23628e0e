"""Maps of where a network looked, as files: a picture for each poster."""

from collections.abc import Iterable
import dataclasses
import re

from etils import epath
import numpy as np

from genre_flax.attribution import attribution
from genre_flax.attribution import heat_map
from genre_flax.evaluation import metrics
from genre_flax.inference import predictor as predictor_lib
from genre_flax.reports import contact_sheet
from genre_flax.runtime import files

FOLDER = 'maps'


@dataclasses.dataclass(frozen=True)
class Poster:
  """A poster to explain.

  Attributes:
    entry: to show, in any size.
    pixels: uint8 [H, W, 3], of the network's input size.
  """

  entry: contact_sheet.Entry
  pixels: np.ndarray


class MapFiles:
  """Writes maps of the three likeliest genres into a folder."""

  def __init__(
    self,
    predictor: predictor_lib.Predictor,
    folder: epath.Path,
    *,
    method: str | None,
  ):
    """Prepares the method, and makes the folder.

    Args:
      predictor: of `predictor_lib.restore`.
      folder: to write to.
      method: see `attribution.Explainer`.

    Raises:
      InputError: the method does not fit the network.
      StorageError: the folder cannot be made.
    """
    self._explainer = attribution.Explainer(predictor, method=method)
    self.method = self._explainer.method
    self._genres = predictor.genres
    self._folder = folder
    with files.storage_errors(folder):
      folder.mkdir(parents=True, exist_ok=True)

  def write(self, posters: Iterable[Poster], *, first: int) -> list[epath.Path]:
    """Writes the maps of some posters.

    Args:
      posters: to explain.
      first: number of the first of them, which its file is called by.

    Returns:
      The path of each.

    Raises:
      StorageError: one cannot be written.
    """
    posters = list(posters)
    if not posters:
      return []
    scores = np.stack([poster.entry.scores for poster in posters])
    chosen = metrics.top_k(scores)
    maps = self._explainer.maps(
      np.stack([poster.pixels for poster in posters]), chosen
    )
    paths = []
    for number, poster in enumerate(posters):
      path = self._folder / _file_name(first + number, poster.entry.name)
      files.write_atomic(
        path,
        heat_map.draw_panel(
          poster.entry, chosen[number], maps[number], genres=self._genres
        ),
      )
      paths.append(path)
    return paths


def _file_name(number: int, name: str) -> str:
  """A name that is safe everywhere, and sorts as the posters do."""
  plain = re.sub(r'[^A-Za-z0-9._-]+', '_', epath.Path(name).stem)[:60]
  return f'{number:05d}_{plain}.png'
