"""Checkpoints, and the only user of Orbax.

`checkpointer` saves and restores them, `record` and `shapes` see damage,
`choice` says which are kept and meant, `recovery` goes back to an older one.
"""
