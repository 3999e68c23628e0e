"""A binary on machines, until it is done.

`job` says what runs, the room `backends` where; `supervisor` follows it and
starts it again, as `endings` says; `wheel` is the code that travels.
"""
