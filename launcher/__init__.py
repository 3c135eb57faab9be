"""A configuration-driven launcher for diffusion pipelines with context parallelism."""

__version__ = "0.1.0"
