"""Tests of genre_flax/results/export."""
