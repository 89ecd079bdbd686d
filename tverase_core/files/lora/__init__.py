"""LoRA files: their names, their strength, the difference that they make."""
