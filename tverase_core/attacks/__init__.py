"""Attacks that search for ways round an erasure."""

from .concept_inversion import concept_inversion

__all__ = ["concept_inversion"]
