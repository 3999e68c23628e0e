"""What `genre_flax.benchmark` runs, each contender in processes of its own."""
