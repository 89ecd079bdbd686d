"""Concept sets as nodes: pictures of what should go."""
