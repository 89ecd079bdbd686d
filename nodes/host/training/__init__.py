"""Training in the host: memory, recomputation, unfinished work."""
