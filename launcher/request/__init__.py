"""A configuration with everything that was left out filled in."""
