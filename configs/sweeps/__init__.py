"""Sweep files for launch.sweep."""
