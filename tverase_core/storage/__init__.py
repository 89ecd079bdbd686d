"""Bytes of safetensors files on disk, whatever they mean."""
