"""Predicts the genres of a film from its poster.

The binaries are here: `prepare` makes a data set, `main` trains on it, `top3`
evaluates and names genres, `export` hands a network on, `benchmark` measures,
`lower` compiles for a slice. Below them are rooms in layers; a module imports
from its own and those below: benchmarks, results, training, evaluation, data
and checkpoints, models and datasets, runtime.
"""
