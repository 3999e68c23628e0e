"""What the program does when it is hit: killed, starved, damaged, lied to.

Each drill tries many cases and counts how they came out. A short form of each
runs with the tests; the long form has the marker `drill`. Where the variable
GENRE_FLAX_DRILLS names a file, the counts are added to it, and `python -m
tests.drills.table FILE` makes the table of docs/guarantees.md of them.
"""
