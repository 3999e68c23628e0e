"""The HTML report of a training run, or of several runs in comparison."""
