"""Benchmarks of speed and memory against Keras and PyTorch.

Each measurement runs in its own process. `libraries` lists the variants of each
library, `runner` starts the processes, `measurement` is common to them, and
`summary` tabulates the results.
"""
