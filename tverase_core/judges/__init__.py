"""Judges: how surely a concept is in a picture."""
