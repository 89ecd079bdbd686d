"""Parts of `bench pace`."""
