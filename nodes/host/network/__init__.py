"""What a MODEL's network is given and how gradients pass it, whatever its family."""
