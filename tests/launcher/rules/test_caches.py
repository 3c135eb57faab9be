"""Caches of steps: what is refused, and what the settings that are left out become."""

import pytest
from refusals import REFUSALS
from shared import GPUS

from launcher.caches import Cache
from launcher.estimates import memory
from launcher.rules import problems


@pytest.mark.parametrize(("line", "said", "machine"), REFUSALS["caches"])
def test_it_is_refused(refuse, line, said, machine):
    refuse(line, said, machine)


@pytest.mark.parametrize(
    ("words", "cache"),
    [
        ([], Cache(steps=12)),
        (["cache=first_block", "cache.threshold=0"], Cache("first_block", 0.0, steps=12)),
        (["cache=faster", "cache.interval=3"], Cache("faster", interval=3, steps=12)),
        (["cache=pab", "steps=1"], Cache("pab", interval=2, steps=1)),
        (["cache=taylorseer", "cache.order=2"], Cache("taylorseer", interval=5, warmup=3, order=2, steps=12)),
        (["cache=mag", "cache.ratios=[1,2]"], Cache("mag", 0.06, warmup=2, ratios=(1.0, 2.0), steps=12)),
    ],
)
def test_what_is_left_out_is_filled_in(ask, words, cache):
    request = ask(*words)
    assert request.cache == cache
    assert problems(request, plan=True) == []


def test_a_model_brings_its_ratios(ask):
    assert len(ask("model=flux", "cache=mag", machine=GPUS).cache.ratios) == 28


def test_what_a_cache_holds_is_counted(ask):
    def activations(*words: str) -> int:
        return memory.estimate(ask("runtime=cpu", "cp=none", *words)).activations

    plain = activations()
    assert activations("cache=first_block") == plain * 27 // 24
    assert activations("cache=first_block", "model.true_cfg=2") == plain * 30 // 24
    assert activations("cache=faster") == plain * (24 + 2 * 4) // 24
    assert activations("cache=taylorseer", "cache.order=2") == plain * (24 + 4 * 3) // 24
