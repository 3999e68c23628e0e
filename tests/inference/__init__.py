"""Tests of genre_flax/inference."""
