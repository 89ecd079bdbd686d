"""Learn a concept: the deltas that become a task vector."""
