"""Tests of genre_flax/export."""
