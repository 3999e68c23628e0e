"""Predicts the genres of a film from its poster.

  import genre_flax

  model = genre_flax.load()
  [prediction] = model.predict(['poster.jpg'])
  print(prediction.top(3))

Programs: `prepare` writes a dataset, `main` trains on it, `top3` predicts and
evaluates, `report` writes an HTML report, `demo` serves a web page, `export`
writes a network for other software, `lower` compiles a step for a TPU slice.
"""

__all__ = [
  'Model',
  'Prediction',
  'evaluate',
  'get_config',
  'load',
  'train',
]


def __getattr__(name: str):
  """The names of `genre_flax.api`, which is imported when one is used."""
  if name not in __all__:
    raise AttributeError(f'module {__name__!r} has no attribute {name!r}')
  from genre_flax import api

  return getattr(api, name)


def __dir__() -> list[str]:
  return sorted([*globals(), *__all__])
