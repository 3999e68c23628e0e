"""The tests; they draw their own posters.

A folder for each room; `binaries` holds what starts programs as a user does,
`support` what several tests share.
"""
