"""Engines that run jobs: a module each, which writes the engine's own file.

Each module has the names of its flags in `OPTIONS`, and functions that take a
job and the values of these flags: `make` returns the text of the file,
`submit_command` the command that submits it, and `follow_up` the engine's
commands for logs, status and cancellation.
"""
