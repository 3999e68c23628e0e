"""Tests of genre_flax/checkpoints."""
