"""The task vector, and what is done with one."""
