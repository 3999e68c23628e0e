"""Networks, their layers, and utilities for their parameters.

`registry` creates a network by name. Each network is a module of its own, built
from `layers` and `normalization`, which call the operations of `ops`.

The attribute `dtype` of a layer or network is that of its computation.
Parameters, statistics, embeddings and logits are float32.
"""
