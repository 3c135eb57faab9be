"""From words to a typed configuration, by Hydra."""
