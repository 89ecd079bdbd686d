"""What was measured, as a document."""
