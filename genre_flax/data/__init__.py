"""Batches of a dataset, from stored posters to augmented arrays on the device.

`input_pipeline` reads posters by random access and batches them on the host,
with `image_decoding` and `cache`. `augmentation` runs inside the training step.
"""
