"""Captions that the training makes up."""

import random

from launcher.flux_tiny.captions import caption
from launcher.flux_tiny.vocabulary import every_meaning, read


def test_they_mean_what_they_were_made_for() -> None:
    rng = random.Random(0)
    pairs = [(m, read(caption(m, rng))) for m in rng.choices(every_meaning(), k=500)]
    # All but those made with parts left out, 8% of them.
    assert sum(m == found for m, found in pairs) > 440
