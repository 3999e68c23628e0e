"""The one evaluation that training and results share.

`evaluate` runs a network over a split, every poster once; `metrics` scores what
it says, `bootstrap` adds intervals, `calibration` makes probabilities and
decisions of it, with what `combinations` knows of genres that go together.
"""
