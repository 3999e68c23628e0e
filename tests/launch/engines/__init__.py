"""Tests of launch.engines."""
