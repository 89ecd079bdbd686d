"""What the benches that erase on the demo models share."""
