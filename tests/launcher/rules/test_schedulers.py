"""The scheduler: one that can follow what the model predicts, and settings that act on it."""

import pytest
from refusals import REFUSALS
from shared import GPUS

from launcher.rules.schedulers import scheduler
from launcher.schedulers import Wish


@pytest.mark.parametrize(("line", "said", "machine"), REFUSALS["schedulers"])
def test_it_is_refused(refuse, line, said, machine):
    refuse(line, said, machine)


@pytest.mark.parametrize(
    ("words", "wish"),
    [
        ([], Wish()),
        (["scheduler=euler", "scheduler.sigmas=karras"], Wish("euler", sigmas="karras")),
        (["scheduler.shift=3"], Wish(shift=3.0)),
        (["scheduler=dpmpp_2m", "scheduler.options={solver_order:3}"], Wish("dpmpp_2m", options={"solver_order": 3})),
        (["model=wan_t2v_1_3b", "scheduler=euler"], Wish("euler")),
        (["model=cogvideox_5b", "scheduler=dpm"], Wish("dpm")),
        (["model=qwenimage", "scheduler=unipc"], Wish("unipc")),
    ],
)
def test_what_is_legal(ask, words, wish):
    request = ask(*words, machine=GPUS)
    assert request.scheduler == wish
    assert list(scheduler(request)) == []
