"""What is done around runs: the binaries of genre_flax are run, not imported."""
