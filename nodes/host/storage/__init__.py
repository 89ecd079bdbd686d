"""How the host stores weights, and what they are whatever they are stored as."""
