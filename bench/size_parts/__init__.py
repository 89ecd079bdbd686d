"""The groups of `bench/size.py`, one file each: a function `(comfyui, work) -> figures`."""
