"""How much to subtract: the smallest strength that suppresses all triggers."""
