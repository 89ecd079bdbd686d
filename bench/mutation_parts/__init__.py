"""Parts of `bench/mutations.py`: the faults, how one is planted, and who looks for it."""
