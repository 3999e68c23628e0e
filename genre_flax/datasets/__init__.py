"""Datasets built by TFDS without TensorFlow; `posters` is the only one."""
