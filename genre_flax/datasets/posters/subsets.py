"""Parts of a prepared dataset: shares of the training split, and folds.

Posters are assigned by hashes of their films, as to the splits. Films that have
an identical image are treated as one.
"""

from collections.abc import Callable, Mapping
import dataclasses
import re
from typing import Any

import numpy as np
import pandas as pd

from genre_flax.datasets.posters import data_card
from genre_flax.datasets.posters import splits
from genre_flax.datasets.posters import storage
from genre_flax.runtime import errors
from genre_flax.runtime import threads


def select(
  dataset: storage.PosterDataset, options: Mapping[str, Any]
) -> storage.PosterDataset:
  """The part of a dataset that a run trains and validates on.

  With a fold, the validation split is that fold of the training split, and the
  training split is the rest of it. A share is then taken of the rest. A smaller
  share is a subset of a larger one.

  Args:
    dataset: the stored one.
    options: `config.dataset`; without a share and a fold, the whole dataset.

  Raises:
    InputError: the training or validation split would be empty.
    DamageError: a record of the training split cannot be read.
  """
  share, fold = options.get('train_share', 1.0), options.get('fold', '')
  if share == 1 and not fold:
    return dataset
  train = options['train_split']
  split = dataset.open_split(train)
  ids, labels = [], []
  for record in threads.map_in_order(split.__getitem__, range(len(split))):
    ids.append(record.id)
    labels.append(record.labels.astype(np.int8))
  film_of = _group_films(dataset.card)
  films = [film_of(each) for each in ids]
  is_train = np.array([splits.fraction(f'share {f}') < share for f in films])
  chosen = {}
  fingerprint = dataset.card['fingerprint']
  if fold:
    number, count = map(int, fold.split('/'))
    folds = [int(count * splits.fraction(f'fold {film}')) for film in films]
    is_fold = np.array(folds) == number - 1
    is_train &= ~is_fold
    chosen[options['validation_split']] = is_fold
    fingerprint += f'-fold{number}of{count}-{options["validation_split"]}'
  if share < 1:
    fingerprint += f'-share{share}'
  fingerprint += f'-{train}'
  chosen[train] = is_train
  for name, is_chosen in chosen.items():
    if not is_chosen.any():
      raise errors.InputError(
        f'config.dataset.train_share={share} and config.dataset.fold={fold!r}'
        f' leave no poster of {len(films)} in the split {name!r}; choose a'
        ' larger share, or fewer folds.'
      )
  frame = pd.DataFrame(labels, columns=list(dataset.genres))
  described = {
    name: data_card.describe_split(frame[is_chosen])
    for name, is_chosen in chosen.items()
  }
  card = {
    **dataset.card,
    **data_card.describe_training(frame[is_train]),
    'fingerprint': fingerprint,
    'splits': {**dataset.card['splits'], **described},
  }
  parts = {
    name: (train, np.flatnonzero(is_chosen))
    for name, is_chosen in chosen.items()
  }
  return dataclasses.replace(dataset, card=card, parts=parts)


def _group_films(card: Mapping[str, Any]) -> Callable[[str], str]:
  """Maps a poster's id to its film, or to that of an identical image."""
  leaders: dict[str, str] = {}

  def find(poster_id):
    # Further posters of a film have its id with #2, #3, ...
    film = re.sub(r'#\d+$', '', poster_id)
    while film in leaders:
      film = leaders[film]
    return film

  for ids in card['duplicates']['identical_images']:
    first, *others = sorted({find(each) for each in ids})
    leaders.update(dict.fromkeys(others, first))
  return find
