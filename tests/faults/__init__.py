"""Fault-injection and load tests."""
