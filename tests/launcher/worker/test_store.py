"""torch's store as questions to the launcher: two ranks of gloo find each other by it, here in two threads."""

from __future__ import annotations

import threading
from datetime import timedelta

import pytest
import torch
import torch.distributed as dist

from launcher.running.board import Board
from launcher.worker.questions import Questions
from launcher.worker.store import LauncherStore


def stores(count: int, timeout: float = 30.0) -> list[LauncherStore]:
    """One for each rank, around one board."""
    board, lock, asked = Board(), threading.Lock(), []

    def sender(rank):
        def send(ask):
            with lock:
                for who, told in board.answers(rank, ask):
                    asked[who].told(told)

        return send

    asked += [Questions(sender(rank)) for rank in range(count)]
    return [LauncherStore(questions, timeout) for questions in asked]


def test_ranks_find_each_other():
    found = stores(2)
    results = {}

    def rank(number):
        group = dist.ProcessGroupGloo(dist.PrefixStore("x", found[number]), number, 2, timedelta(seconds=30))
        tensor = torch.full((2,), float(number + 1))
        group.allreduce([tensor]).wait()
        results[number] = tensor.tolist()

    threads = [threading.Thread(target=rank, args=(number,), daemon=True) for number in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert results == {0: [3.0, 3.0], 1: [3.0, 3.0]}


def test_it_is_a_store_to_torch():
    one, other = stores(2)
    prefixed = dist.PrefixStore("p", one)
    prefixed.set("key", b"\0\xff")
    assert dist.PrefixStore("p", other).get("key") == b"\0\xff"
    assert prefixed.add("n", 2) == 2
    assert dist.PrefixStore("p", other.clone()).add("n", 1) == 3
    assert not prefixed.check(["nothing"])
    prefixed.wait(["key"])
    assert prefixed.delete_key("key")
    assert not prefixed.check(["key"])


def test_a_key_that_nobody_sets_is_waited_for_no_longer_than_that():
    store = stores(1, timeout=0.1)[0]
    with pytest.raises(TimeoutError, match=r"no rank has told key within 0.1 s"):
        store.get("key")
    store.set_timeout(timedelta(seconds=0.2))
    with pytest.raises(TimeoutError, match=r"within 0.2 s"):
        store.wait(["key"])
