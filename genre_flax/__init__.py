"""Predicts the genres of a film from its poster.

Programs: `prepare` writes a dataset, `main` trains on it, `top3` predicts and
evaluates, `report` writes an HTML report, `demo` serves a web page, `export`
writes a network for other software, `lower` compiles a step for a TPU slice.
"""
