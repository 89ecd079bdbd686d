"""The contenders of `bench/peers.py`, each in a process of its own (`job.py`)."""
