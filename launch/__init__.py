"""Around runs: the binaries of genre_flax are run, never imported."""
