"""What is seen in pictures, and how sure one may be of a rate."""
