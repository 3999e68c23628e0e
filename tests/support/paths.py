"""Where things are that tests look at."""

import pathlib

ROOT = pathlib.Path(__file__).parents[2]
# Real posters, where a checkout has them beside it.
REAL_POSTERS = ROOT.parent / 'shared' / 'posters'
