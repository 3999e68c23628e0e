"""What a slice would do with a config, before it is rented.

`roofline` knows the machines' peaks; `slice_plan` makes a bound of what the
compiler says, `batch_search` finds the largest batch that fits.
"""
