"""Task vectors as nodes: extract, save, load, combine, compare, apply, export."""
