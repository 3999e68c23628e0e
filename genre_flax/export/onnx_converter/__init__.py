"""Converts JAX functions to ONNX.

`converter` walks the jaxpr of a function, `graph` builds the ONNX model, and
`elementwise`, `shapes` and `layers` hold one rule per JAX primitive.
"""
