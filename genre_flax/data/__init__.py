"""From a data set to batches on the devices.

`input_pipeline` reads posters by random access and batches them, by
`image_decoding` and `cache`; `augmentation` changes them on the device.
"""
