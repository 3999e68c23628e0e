"""How the programs of `launch` start, fail, lock and run other programs.

`command_line` parses and ends with the status of `errors`; `command` is the one
place where other programs are run.
"""
