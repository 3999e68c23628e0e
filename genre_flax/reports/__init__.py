"""Reports of splits, of image files and, in HTML, of trainings."""
