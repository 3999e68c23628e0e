"""Checkpoints: saving, verified restoring and selection; all use of Orbax."""
