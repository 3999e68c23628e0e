"""Data sets, one room each, built by TFDS without TensorFlow.

`posters` is the only one: its `build` is the way in, its `storage` the way out.
"""
