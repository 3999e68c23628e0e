"""Tests of launch/jobs/backends."""
