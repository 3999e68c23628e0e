"""Searches over config keys, a job a trial.

`sweep_file` says what is searched, `studies` proposes, `trials` runs one,
`controller` runs them all, `report` shows them.
"""
