"""What `dev.py` is made of. Standard library only; nothing of it ships to users of the pack."""
