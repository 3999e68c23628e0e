"""Tests of faults: kills, full disks, damaged files."""
