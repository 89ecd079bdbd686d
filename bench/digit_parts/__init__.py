"""Parts of `bench digits`."""
