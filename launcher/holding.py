"""Which rank holds which part of a pipeline. Without torch: plans count with it, and ranks load by it.

Every rank holds the transformers, whose work all share. Rank 0 alone encodes prompts, tells the others what came of it,
and decodes; so the others have no weights of what that takes, unless they run it: the VAE where all ranks decode tiles,
or where each encodes the picture that it starts from.
"""

from __future__ import annotations

DECODERS = ("vae", "audio_vae", "vocoder")
DECODES_BETWEEN_STEPS = ("HeliosPipeline",)  # so all ranks do


def encodes(part: str) -> bool:
    """Whether this part of a pipeline turns prompts, or pictures beside them, into embeddings."""
    return part == "text" or "encoder" in part


def on_first_rank(part: str) -> bool:
    """Whether only rank 0 loads this part; any other rank does so if it runs it."""
    return encodes(part) or part in DECODERS
