"""From a config to a trained network.

`config` and its rules are checked by `run`, which puts all parts together;
`initialize` gives the first parameters, `train` loops over `train_step`.
"""
