"""Speed and memory, beside Keras and PyTorch.

`contenders` says who is measured; `processes` runs each measurement in a
process of its own (`child`), in turn; `report` puts the figures side by side.
"""
