"""Which weights a model has, and which model it is."""
