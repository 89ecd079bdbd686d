"""Rooms of `bench arena`: what is tried, in which order, how it is counted and told."""
