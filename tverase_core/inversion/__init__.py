"""Find triggers: word embeddings that make a model draw the concept."""
