"""Block Mask and Auto Block Mask."""
