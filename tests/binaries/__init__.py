"""Tests of the binaries, as a user starts them."""
