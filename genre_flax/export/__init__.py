"""Exports of trained networks that run without this package.

`export` writes and verifies the folder of an export. The formats are
in `onnx_export` (with `onnx_converter`), `stablehlo_export`, `timm_export` and
`web_export`; all but timm export the function of `prediction_function`.
"""
