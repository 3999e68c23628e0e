"""Inference: from a checkpoint to the scores of images and splits."""
