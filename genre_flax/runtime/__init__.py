"""Processes, devices, files, random keys, errors and logging.

Nothing here depends on posters or networks.
"""
