"""Processes, hosts, devices, random keys, files, and the error a user sees.

Nothing here knows of posters. A binary goes through `command_line`, `platform`
and `compilation_cache`; all else calls `parallel`, `rng`, `files` and `errors`.
"""
