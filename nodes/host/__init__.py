"""The only place that touches ComfyUI's own modules. Everything else speaks `tverase_core`."""
