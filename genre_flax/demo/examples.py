"""Posters to click on: drawn by the software, so that nobody owns them."""

from etils import epath

from genre_flax.datasets.posters import images
from genre_flax.datasets.posters import synthetic
from genre_flax.demo import service as service_lib

# Of the collection that they are drawn from; no training uses it.
_SEED = 2027
_NUM_EXAMPLES = 6


def draw(folder: epath.Path) -> list[service_lib.Upload]:
  """Draws a few posters.

  Args:
    folder: to write them to; made where it does not exist.

  Returns:
    The posters, as if they had been uploaded, of different genres.
  """
  folder.mkdir(parents=True, exist_ok=True)
  drawn, seen, index = [], set(), 0
  while len(drawn) < _NUM_EXAMPLES:
    image, genres = synthetic.draw_poster(index, seed=_SEED)
    index += 1
    if seen & set(genres) and len(seen) < len(synthetic.GENRES) - 2:
      continue
    seen |= set(genres)
    name = f'Drawn poster {len(drawn) + 1}.jpg'
    path = folder / f'{len(drawn) + 1}.jpg'
    path.write_bytes(images.to_jpeg(image))
    drawn.append(service_lib.Upload(name, path))
  return drawn
