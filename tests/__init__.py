"""Tests; folders mirror the packages.

`programs` tests whole programs, `faults` injects faults, and `support` contains
helpers of several tests. All posters are synthetic.
"""
