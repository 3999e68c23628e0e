"""Predicts the genres of a film from its poster, in JAX and Flax."""
