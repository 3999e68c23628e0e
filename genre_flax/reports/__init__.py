"""Reports of splits, image files and training runs."""
