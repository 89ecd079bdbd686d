"""What `bench faults` does: hostile files, injected faults, orders of branches, endurance."""
