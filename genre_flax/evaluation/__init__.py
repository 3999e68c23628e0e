"""Evaluation, shared by training, inference and reports.

`evaluator` applies a network to each example of a split once; `metrics` and
`bootstrap` compute metrics and their intervals; `calibration` maps logits to
probabilities and predicted genres, with the prior of `label_sets`.
"""
