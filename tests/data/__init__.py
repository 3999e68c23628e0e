"""Tests of genre_flax/data."""
