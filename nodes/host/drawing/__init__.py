"""Drawing pictures with the host's samplers."""
