"""From a legal request to a run directory: sessions, jobs, groups of ranks."""
