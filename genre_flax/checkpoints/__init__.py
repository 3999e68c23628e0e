"""Checkpoints, and the only user of Orbax.

`checkpoint` saves and restores what a run holds, chooses among its steps, and
goes back to an older one where the newest is damaged.
"""
