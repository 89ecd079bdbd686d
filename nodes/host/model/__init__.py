"""The host's MODEL: its weights, patches and denoiser."""
