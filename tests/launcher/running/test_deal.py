"""Jobs dealt to groups: which, where, and what a failure or a signal does to the others."""

import itertools
import threading
import time
from collections import defaultdict

import pytest
from shared import GPUS, LAPTOP

from launcher.config.compose import Composer
from launcher.problems import Interrupted, Refused
from launcher.rules import problems
from launcher.running import deal
from launcher.running.message import group_key
from launcher.running.progress import UNSEEN
from launcher.running.session import Session
from launcher.running.starters import accelerate


@pytest.mark.parametrize(
    ("typed", "machine", "said"),
    [
        ("x", LAPTOP, "data=x: takes a whole number of groups from 1, or auto; type data=2 or data=auto"),
        ("0", LAPTOP, "data=0: takes a whole number"),
        ("1.5", LAPTOP, "data=1.5: takes a whole number"),
        ("3", LAPTOP, "data=3: 3 groups have 2 cores to share; type data=2 or less, or data=auto"),
        ("5", GPUS, "data=5: 5 groups have 4 GPUs to share; type data=4 or less"),
    ],
)
def test_groups_that_can_not_be(typed, machine, said):
    with pytest.raises(Refused) as refused:
        deal.groups_of(typed, machine)
    assert said in str(refused.value.problems[0])


@pytest.mark.slow
def test_groups_on_the_cpu_share_its_cores(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    session, words = Session(Composer()), ["data=5", "seed=1,2", "height=0"]  # no job is legal: no rank starts
    session.machine = GPUS
    assert [job.status for job in session.sweep([*words, "runtime=cpu"]).jobs] == ["refused", "refused"]
    with pytest.raises(Refused, match="5 groups have 4 GPUs to share"):
        session.sweep(words)


def test_auto_fills_the_machine_and_has_no_more_groups_than_jobs(ask):
    two = ask("model=flux", "cp=ring_anything", "cp.ring_degree=2", machine=GPUS)
    assert deal.groups_of("auto", GPUS) is None
    assert deal.fitting([two] * 8, GPUS) == 2
    assert deal.fitting([two], GPUS) == 1
    assert deal.fitting([ask("cp=none", machine=LAPTOP)] * 8, LAPTOP) == 2
    assert deal.fitting([ask("cp=ring_anything", "cp.ring_degree=5", machine=LAPTOP)] * 8, LAPTOP) == 1
    assert deal.fitting([], LAPTOP) == 1


@pytest.mark.slow
def test_each_group_has_gpus_of_its_own(ask, monkeypatch, tmp_path):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "4,5,6,7")
    share = deal.part(GPUS, 2)
    assert (len(share.gpus), share.cores) == (2, 8)
    request = ask("cp=ring_anything", machine=share)
    assert (request.mesh.ranks, request.threads) == (2, (4, 4))
    seen = []
    for group in range(2):
        key = group_key(deal.placed(request, GPUS, None, group, 2))
        seen.append(accelerate.environment("cuda", key.devices, key.threads, tmp_path)["CUDA_VISIBLE_DEVICES"])
    assert seen == ["4,5", "6,7"]
    config = deal.chosen(ask("runtime.devices=[3,1]", machine=GPUS).config, GPUS, 2)
    assert config.runtime.devices == [3]
    one = ask("cp=none", "runtime.devices=[3]", machine=GPUS)
    other = deal.placed(one, GPUS, [3, 1], 1, 2)
    assert (other.devices, other.config.runtime.devices) == ((1,), [1])
    with pytest.raises(Refused, match=r"3 groups have 2 GPUs of runtime\.devices to share"):
        deal.chosen(ask("runtime.devices=[3,1]", machine=GPUS).config, GPUS, 3)


def test_a_job_for_more_than_a_groups_part_is_refused(ask):
    line = ["cp=ring_anything", "cp.ring_degree=3", "runtime=gpu", "runtime.dtype=float32"]
    assert any("available: 2" in problem.rule for problem in problems(ask(*line, machine=deal.part(GPUS, 2))))
    assert not any("available" in problem.rule for problem in problems(ask(*line, machine=GPUS)))


def test_a_group_goes_on_with_jobs_like_its_last_one():
    done: dict[int, list[str]] = defaultdict(list)
    kinds = dict(enumerate("ababababab"))
    told: list[int] = []
    barrier = threading.Barrier(2, timeout=30)

    def run(number: int, group: int) -> None:
        if not done[group]:
            barrier.wait()  # both groups have begun
        done[group].append(kinds[number])
        time.sleep(0.005)

    deal.deal(kinds, 2, run, lambda number: bool(told.append(number)), threading.Event())
    assert sorted(told) == list(range(10))
    loads = sum(len(list(itertools.groupby(each))) for each in done.values())
    assert loads <= 3  # two kinds for two groups; the first to have no job left of its own takes one of the other's


def test_no_job_is_started_after_the_last_word():
    ran: list[int] = []
    deal.deal(
        dict.fromkeys(range(9), "a"), 2, lambda number, _: ran.append(number), lambda number: True, threading.Event()
    )
    assert len(ran) <= 3


def test_an_error_ends_the_others_and_comes_through():
    stopped, ended = threading.Event(), []
    progress = deal.Shared(UNSEEN, stopped)

    def run(number: int, group: int) -> None:
        if number == 1:
            raise MemoryError("it broke")
        with pytest.raises(Interrupted):
            for _ in range(3000):
                progress.tick()
                time.sleep(0.01)
        ended.append(number)

    with pytest.raises(MemoryError, match="it broke"):
        deal.deal(dict.fromkeys(range(4), "a"), 2, run, lambda _: False, stopped)
    assert ended == [0]
