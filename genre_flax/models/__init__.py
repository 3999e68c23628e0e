"""The networks, what they are made of, and published weights for them.

`registry` makes a network by its name; each is a file of its own, made of
`layers`, which take the fastest exact form for the platform from `forms`.
"""
