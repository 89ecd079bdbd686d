"""Diverse Inversion, and the files and embeddings that come from it."""
