"""The host's CLIP: encoding, and edits of it."""
