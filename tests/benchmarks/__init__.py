"""Tests of genre_flax/benchmarks."""
