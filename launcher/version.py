"""This release. pyproject.toml reads it here, and so does what records it, without importing the package's Pool."""

__version__ = "0.1.0"
