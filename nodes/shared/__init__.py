"""What several nodes have in common: sockets, texts, pictures shown."""
