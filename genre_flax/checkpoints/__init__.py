"""Checkpoints, and the only user of Orbax.

`checkpointer` saves and restores them, `choice` says which are kept and meant,
`recovery` goes back to an older one where the newest is damaged.
"""
