"""Auto-Strength: its settings, its report."""
