"""Tests of genre_flax/pretrained."""
