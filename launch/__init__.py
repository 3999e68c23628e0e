"""Runs the binaries of genre_flax on pod slices, clusters and this machine."""
