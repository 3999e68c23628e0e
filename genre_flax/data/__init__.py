"""From a data set to batches on the devices.

`input_pipeline` reads posters by random access and batches them, by
`preprocess` and `decoded_cache`; `augment` draws views of them on the device.
"""
