"""Embeddings of posters, and the nearest posters of the training split."""
