"""From CSV files and images to a TFDS data set of posters.

`build` goes through it: `sources`, `annotations` and `rows` read the CSV files,
`collection` joins them with the `images`, `splits` divides, `writing` stores,
`storage` opens, and `verify` tells whether it is whole.
"""
