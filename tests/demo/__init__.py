"""Tests of genre_flax/demo."""
