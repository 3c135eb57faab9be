"""Every constraint, one small function each."""
