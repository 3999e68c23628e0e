"""Tests of genre_flax/evaluation."""
