"""Searches over config keys, a job a trial.

`search` reads the sweep file and proposes, `trials` runs one, `controller` runs
them all, `report` shows them.
"""
