"""Concept Fine-tune and its settings."""
