"""Tests of genre_flax/runtime."""
