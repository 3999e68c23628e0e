"""Tests of launch/jobs."""
