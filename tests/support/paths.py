"""Folders that tests read."""

import pathlib

ROOT = pathlib.Path(__file__).parents[2]
# Real posters; not part of a checkout.
REAL_POSTERS = ROOT.parent / 'shared' / 'posters'
