"""Jobs dealt to groups: which, where, and what a failure or a signal does to the others."""

import itertools
import signal
import threading
import time
from collections import defaultdict

import pytest
from hypothesis import given
from hypothesis import strategies as st
from shared import GPUS

from launcher.config.compose import Composer, to_config
from launcher.estimates.ways import resolve
from launcher.problems import Interrupted, Refused
from launcher.rules import problems
from launcher.running import deal
from launcher.running.message import group_key
from launcher.running.progress import UnseenBoard
from launcher.running.session import Session
from launcher.running.starters import accelerate


@pytest.fixture
def ask_groups(composer):
    """The request of the first of several groups that share four GPUs."""
    return lambda groups, *words: resolve(to_config(composer.compose(list(words))), GPUS, groups)


@pytest.mark.slow
def test_groups_on_the_cpu_share_its_cores(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    session, words = Session(Composer()), ["data=5", "seed=1,2,3,4,5", "height=0"]  # no job is legal: no rank starts
    session.machine = GPUS
    assert [job.status for job in session.sweep([*words, "runtime=cpu"]).jobs] == ["refused"] * 5
    with pytest.raises(Refused, match="5 groups have 4 GPUs to share"):
        session.sweep(words)


@pytest.mark.slow
def test_a_sweep_has_no_more_groups_than_jobs(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    session = Session(Composer())
    session.machine = GPUS
    with pytest.raises(Refused, match="data=3: 3 groups have 2 jobs to share; type data=2 or less, or data=auto"):
        session.sweep(["data=3", "seed=1,2"])
    with pytest.raises(Refused, match="objective=latency,throughput: is of a sweep as a whole"):
        session.sweep(["objective=latency,throughput"])


def test_each_group_has_gpus_of_its_own(ask_groups, monkeypatch, tmp_path):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "4,5,6,7")
    request = ask_groups(2, "cp=ring_anything", "images=2")
    assert (len(request.machine.gpus), request.machine.cores) == (2, 8)
    assert (request.mesh.ranks, request.threads) == (2, (4, 4))
    seen = []
    for group in range(2):
        key = group_key(deal.placed(request, group))
        seen.append(accelerate.environment("cuda", key.devices, key.threads, tmp_path)["CUDA_VISIBLE_DEVICES"])
    assert seen == ["4,5", "6,7"]
    listed = ask_groups(2, "cp=none", "images=2", "runtime.devices=[3,1]")
    assert [deal.placed(listed, group).devices for group in range(2)] == [(3,), (1,)]
    whole = deal.together([deal.placed(listed, group) for group in range(2)])
    assert (whole.devices, whole.config.runtime.devices, len(whole.machine.gpus)) == ((3, 1), [3, 1], 4)
    assert not [problem for problem in problems(listed) if "runtime.devices" in problem.value]


def test_a_group_that_has_loaded_does_not_load_again_for_the_last_job_of_another():
    """Ten jobs of one kind and one of another: three loads; the last job waits for the group that is at its kind."""
    done = dealt(["a"] * 10 + ["b"], 2)
    assert loads(done) == 3
    done = dealt(["a", "a", "a", "b"], 2)  # the group of b finds one job of a left, and a group at it
    assert loads(done) == 2


def dealt(kinds: list[str], groups: int) -> list[list[str]]:
    """The kinds of the jobs that each group gets, where every job takes the same time."""
    left, last, done = dict(enumerate(kinds)), {}, [[] for _ in range(groups)]
    while left:
        busy: set[int] = set()
        for group in sorted(range(groups), key=lambda each: last.get(each) not in left.values()):
            if (number := deal.next_job(left, last, group, busy)) is not None:
                last[group] = left.pop(number)
                done[group].append(last[group])
                busy.add(group)
    return done


def loads(done: list[list[str]]) -> int:
    return sum(len(list(itertools.groupby(each))) for each in done)


@pytest.mark.slow
@given(kinds=st.lists(st.sampled_from("abcd"), min_size=1, max_size=12), groups=st.integers(1, 4))
def test_a_kind_is_loaded_once_where_groups_do_not_outnumber_kinds(kinds, groups):
    """No group can work without a load, and no kind; a group loads again only to help with what others have left."""
    done, different = dealt(kinds, groups), len(set(kinds))
    assert sorted(itertools.chain(*done)) == sorted(kinds)
    assert loads(done) >= max(different, sum(map(bool, done)))
    if groups == 1:
        assert loads(done) == different
    assert loads(done) <= different + groups


def test_one_group_does_jobs_of_a_kind_one_after_another():
    assert deal.in_order(dict(enumerate("abcab"))) == [0, 3, 1, 4, 2]


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
    ended = []
    shared = deal.Shared(UnseenBoard())
    progress = shared.job(0, "", 1)

    def run(number: int, group: int) -> None:
        if number == 1:
            raise MemoryError("it broke")
        with pytest.raises(Interrupted):
            for _ in range(3000):
                progress.tick()
                time.sleep(0.01)
        ended.append(number)

    with pytest.raises(MemoryError, match="it broke"):
        deal.deal(dict.fromkeys(range(4), "a"), 2, run, lambda _: False, shared.stopped)
    assert ended == [0]


def test_a_group_that_leaves_after_its_picture_lets_the_others_end_theirs():
    left, ended, stopped = threading.Event(), [], threading.Event()

    def run(number: int, group: int) -> None:
        if number == 0:
            left.set()
            raise Interrupted(signal.SIGUSR1)
        assert left.wait(60)

    with pytest.raises(Interrupted) as error:
        deal.deal(dict.fromkeys(range(9), "a"), 2, run, lambda number: bool(ended.append(number)), stopped)
    assert error.value.signum == signal.SIGUSR1
    assert ended in ([1], [1, 2])  # the other group may have taken one more before it was known
    assert not stopped.is_set()
