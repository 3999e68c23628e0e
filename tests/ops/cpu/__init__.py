"""Tests of genre_flax/ops/cpu."""
