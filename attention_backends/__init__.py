"""Exact context-parallel attention for diffusers, for any (uneven) sequence length."""
