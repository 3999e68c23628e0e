"""Runs the binaries elsewhere; knows nothing of the inside of genre_flax.

The programs are here: `run` starts a job, `plan` says what a slice would do,
`sweep` searches config keys. Below them are rooms: sweeps, plans, jobs, and
runtime.
"""
