"""Training: from a config to a trained network.

`setup` validates a config and builds the network, the loss and the optimizer;
`restore` resumes or initializes a state; `train` loops over `train_step`.
"""
