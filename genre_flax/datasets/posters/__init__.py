"""From label tables and images to a TFDS dataset of posters.

`build` runs all steps: `sources` reads the label tables (with `annotations`,
`csv_table`, `columns`, `rows`), `collection` joins them with the `images`,
`splits` assigns the splits, and `writing` stores the dataset. `storage` opens
it, and `subsets` takes parts of it.
"""
