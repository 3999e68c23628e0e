"""Engines that run jobs: a module each, which writes the engine's own file.

Each module has the names of its flags in `OPTIONS`, the end of the file's name
in `SUFFIX`, the command that takes the file in `SUBMIT`, and whether its
machines have the files of this one in `SHARES_FILES`. `make` returns the text
of the file for a job and the values of these flags, and `follow_up` the
engine's commands for logs, status and cancellation. `local` runs the job.
"""
