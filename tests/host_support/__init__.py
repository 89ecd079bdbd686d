"""What tests need to meet a real ComfyUI, and tiny stand-ins for tests that need none."""
