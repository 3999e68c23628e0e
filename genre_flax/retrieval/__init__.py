"""Embeddings of posters, and their nearest neighbors."""
