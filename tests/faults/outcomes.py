"""Counts how the cases of a drill came out."""

import collections
import json
import os


class Outcomes(collections.Counter):
  """Outcomes in words, each with how many cases came out so."""

  def __init__(self, drill: str, *, group: str):
    super().__init__()
    self._drill, self._group = drill, group

  def done(self) -> None:
    """Adds the counts to the file of all drills, where one is named."""
    path = os.environ.get('GENRE_FLAX_DRILLS')
    if path:
      line = {'group': self._group, 'drill': self._drill, 'outcomes': self}
      with open(path, 'a', encoding='utf-8') as file:
        file.write(json.dumps(line) + '\n')
