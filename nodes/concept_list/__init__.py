"""A list of concepts from a YAML file, erased one after the other; see docs/erase-a-list.md.

No node uses this package: `erase_list.py` does, in a process of its own.
"""
