"""From a trained network to what others can run without this package.

`graph` is the function that is handed on; `onnx_file` and `stablehlo_file`
write it, `check` holds what was written against our own scores, `model_card`
describes it, `web` makes a page of it, and `write` puts the folder together.
"""
