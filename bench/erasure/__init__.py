"""The measurement behind `python dev.py bench claims`, one job a concept and seed."""
