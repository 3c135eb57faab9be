"""What the launcher and its ranks say to each other."""
