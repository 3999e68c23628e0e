"""Released models: a folder each, see `genre_flax.checkpoints.released`."""
