"""Baseline erasers. Each makes deltas towards the concept, like a task vector's."""
