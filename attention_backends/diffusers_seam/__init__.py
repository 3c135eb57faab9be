"""The only room that touches diffusers' private names; tests/attention_backends/diffusers_seam pins each of them."""

from attention_backends.diffusers_seam.switch import disable, enable

__all__ = ["disable", "enable"]
