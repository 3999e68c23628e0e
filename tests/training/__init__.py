"""Tests of genre_flax/training."""
