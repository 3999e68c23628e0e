"""From CSV files and images to a TFDS data set of posters.

`build` goes through it: `sources` and `annotations` read the rows, `images` the
files, `collection` joins both, `splits` divides, `storage` writes and opens.
"""
