"""Tests of genre_flax/models."""
