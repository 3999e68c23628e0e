"""Tests of genre_flax/results/html_report."""
