"""Tests of genre_flax/retrieval."""
