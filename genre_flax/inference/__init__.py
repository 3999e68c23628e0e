"""From a checkpoint to scores: predictor, ensembles, image files."""
