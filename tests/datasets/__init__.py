"""Tests of genre_flax/datasets."""
