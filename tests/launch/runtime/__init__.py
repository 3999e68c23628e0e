"""Tests of launch/runtime."""
