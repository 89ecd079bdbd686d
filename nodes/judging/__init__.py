"""Judges as nodes, and measured damage."""
