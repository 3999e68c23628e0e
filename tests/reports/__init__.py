"""Tests of genre_flax/reports."""
