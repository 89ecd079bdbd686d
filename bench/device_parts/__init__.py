"""The checks of `bench device_check`, and the processes that they run in."""
