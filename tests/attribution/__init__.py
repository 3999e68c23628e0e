"""Tests of genre_flax/attribution."""
