"""A binary on machines, until it is done.

`job` says what runs, the room `backends` where; `supervisor` follows it and
starts it again, as `endings` and `restarts` say; `wheel` is the code that
travels, and `travel` refuses what would not.
"""
