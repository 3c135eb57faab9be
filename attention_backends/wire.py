"""The connections of the ranks that share a sequence, and how a failure on one of them reaches all.

Ranks wait for each other's messages for as long as it takes, so a rank that fails must wake them: it leaves the cause
in the group's store and closes its connections. Whoever waits for it gets an error at once, closes its own, so that all
wake up, and raises with the cause. That costs nothing until a rank fails; the next forward opens new connections.
Ranks that run apart without failing are found by watch.py, and end in the same way.
"""

import contextlib
import json
import time
from collections.abc import Callable, Sequence
from datetime import timedelta
from functools import partial
from typing import Any, TypeVar

import torch
import torch.distributed as dist
from torch.distributed import PrefixStore  # type: ignore[attr-defined]  # not in its __all__

from attention_backends.exchange import ConnectionLostError, RankFailedError
from attention_backends.leaving import Leaving
from attention_backends.transport import Waits, decide, has_nccl
from attention_backends.watch import PATIENCE, RECEIVE, SEND, Message, Watch

__all__ = ["RankFailedError", "Wire", "guarded", "wire_of"]

Result = TypeVar("Result")

_LONGEST = 2000  # characters of a cause
_NOBODY = 0x7FFFFFFF  # the tag of a message that is never sent
_PROMPTLY = timedelta(milliseconds=1)


class _Posted:
    """A message under way, so that the watch sees what a rank waits for."""

    def __init__(self, wire: "Wire", message: Message, work: Waits) -> None:
        self.wire, self.message, self.work = wire, message, work
        wire.open[id(self)] = message

    def wait(self) -> None:
        self.wire.waits = self.message, time.monotonic()
        try:
            if self.message.kind == SEND:
                self.wire.leaving.wait(self.work, partial(self.wire.probe, self.message.peer))
            else:
                self.work.wait()
        except RuntimeError as error:
            if self.wire.inside:  # `guarded` does the rest
                raise
            echo = self.wire.fail(ConnectionLostError(str(error)))
            raise echo or error from error
        finally:
            self.wire.waits = None
            self.wire.steps += 1
            self.wire.open.pop(id(self), None)


class Wire:
    """gloo connections between the ranks of `parent`, of their own: a failure breaks these and not the caller's.

    It is given to exchange.post in place of a process group. CUDA tensors travel by the parent's NCCL unless `by_host`.
    """

    def __init__(self, parent: dist.ProcessGroup) -> None:
        self.parent = parent
        self.by_host = True
        self.place = ""  # in the forward, the same on all ranks: messages of different places never meet
        self.patience = PATIENCE
        self.inside = False  # in a forward
        self.open: dict[int, Message] = {}  # under way
        self.waits: tuple[Message, float] | None = None  # the message that this rank waits for, and since when
        self.steps = 0  # messages that it has waited for
        self.leaving = Leaving()
        self._store: Any = PrefixStore("attention_backends", parent.get_group_store())
        self._said = self._opened = self._forward = self._exchange = 0  # counted alike by all ranks
        self._watch: Watch | None = None
        self._gloo: Any = None  # dist.ProcessGroupGloo, which torch does not type
        self._ended = ""  # why these ranks can't be connected any more

    def rank(self) -> int:
        return self.parent.rank()

    def size(self) -> int:
        return self.parent.size()

    def send(self, tensors: list[torch.Tensor], peer: int, tag: int, /) -> Waits:
        return _Posted(self, Message(SEND, peer, tag), self._connected().send(tensors, peer, tag))

    def recv(self, tensors: list[torch.Tensor], peer: int, tag: int, /) -> Waits:
        return _Posted(self, Message(RECEIVE, peer, tag), self._connected().recv(tensors, peer, tag))

    def posted(self) -> tuple[Message, ...]:
        """The messages under way."""
        return tuple(self.open.values())

    def _connected(self) -> Any:
        if self._gloo is None:
            raise ConnectionLostError("the connections to the other ranks are closed since one of them failed")
        return self._gloo

    def probe(self, peer: int) -> None:
        """Raise RuntimeError if the connection to this rank is closed."""
        self._connected().recv([torch.empty(1)], peer, _NOBODY)

    def way(self, asked: str, devices: Sequence[str]) -> str:
        """How CUDA tensors can travel between these devices of the ranks: see transport.decide, which raises."""
        return decide(asked, "cuda:nccl" in str(dist.get_backend_config(self.parent)), devices)

    def move_on(self, where: str) -> None:
        """Say that what follows is another exchange than what came before; every rank does so alike."""
        self._exchange += 1
        self.place = f"{where} of forward {self._forward} (exchange {self._exchange})"

    def agree(self, told: str) -> list[str]:
        """What every rank says, in rank order; they are connected then. All ranks come here, or to `refuse`.

        Raises:
            RankFailedError: a rank refused instead, or has ended.
        """
        self._check_alive()
        if self._watch is None and self.size() > 1:
            self._watch = Watch(self, self._store.clone())
        self._say(f"{'closed' if self._gloo is None else 'open'} {self._forward} {told}")
        answers = [self._store.get(f"said {self._said} {rank}").decode().split(" ", 1) for rank in range(self.size())]
        if self._said > 2:  # all have read what was said two times ago
            self._store.delete_key(f"said {self._said - 2} {self.rank()}")
        for rank, (kind, words) in enumerate(answers):
            if kind == "failed":
                raise RankFailedError(f"rank {rank} failed: {words}")
        told_by = [words.split(" ", 1) for _, words in answers]
        self._forward = max(int(forward) for forward, _ in told_by)  # one may have been left out before
        if any(kind == "closed" for kind, _ in answers):
            self._close()
            self._connect()
        return [words for _, words in told_by]

    def refuse(self, error: BaseException) -> None:
        """Answer the other ranks' `agree` with an error, without waiting for them."""
        self._say(f"failed {_words(error)}")

    def _say(self, words: str) -> None:
        self._said += 1
        self._store.set(f"said {self._said} {self.rank()}", words)

    def begin(self) -> None:
        """Begin a forward, which every rank does; after a failure it connects the ranks anew.

        Raises:
            RankFailedError: a failure of this rank, in the forward before and after its last exchange, is one that
                other ranks meet in this forward; then all leave it, and begin the next together. Or a rank has ended.
        """
        self._check_alive()
        self._forward += 1
        self._exchange = 0
        self.place = f"the beginning of forward {self._forward}"
        if self._gloo is None:
            store = self._here()
            met = max(int(store.get(f"met {rank}")) for rank in range(self.size()))
            if met >= self._forward:
                raise RankFailedError(f"{self._cause()}, in the forward before")
            self._connect()
        self.inside = True

    def end(self) -> None:
        """End a forward; its backward may follow."""
        self.inside = False
        self.place = f"the backward of forward {self._forward}"

    def _check_alive(self) -> None:
        if self._ended:
            raise RankFailedError(f"{self._ended} Start all ranks anew.")

    def _connect(self) -> None:
        self._opened += 1
        self.open.clear()
        store = self._here()
        self._gloo = dist.ProcessGroupGloo(store, self.rank(), self.size(), self._store.timeout)
        # One that fails at once must not close what another is still about to connect.
        store.set(f"connected {self.rank()}", "")
        store.wait([f"connected {rank}" for rank in range(self.size())])

    def _here(self) -> Any:
        """What belongs to these connections in the store."""
        return PrefixStore(f"wire {self._opened}", self._store)

    def tear(self, why: str, outside: Sequence[int]) -> None:
        """Close the connections under a rank that waits in them, from another thread; it raises with the cause.

        outside: the ranks that are in no forward; they raise in their next, when the others are in their next, too.
        """
        told = {"why": why[:_LONGEST], "outside": list(outside), "forward": self._forward}
        self._here().compare_set("apart", "", json.dumps(told))  # what the first rank says holds
        self._close_all(self._gloo)

    def _apart(self) -> dict[str, Any]:
        store = self._here()
        return dict(json.loads(store.get("apart"))) if store.check(["apart"]) else {}

    def fail(self, error: BaseException) -> RankFailedError | None:
        """Wake all other ranks, telling them why. Returns what to raise in place of an error that is only an echo."""
        if self._gloo is None:
            return None
        echo = None
        with contextlib.suppress(RuntimeError):  # the store may have ended with its rank
            apart = self._apart()
            if isinstance(error, ConnectionLostError) and self.rank() in apart.get("outside", ()):
                self._forward = apart["forward"] + 1
            self._here().set(f"met {self.rank()}", str(self._forward))
        if isinstance(error, ConnectionLostError):
            cause = self._cause()
            if not cause:  # one that fails leaves a cause, so this one was killed
                cause = self._ended = f"the connection to another rank is lost, which has ended: {error}"
            echo = RankFailedError(cause)
        else:
            with contextlib.suppress(RuntimeError):
                self._here().set(f"failed {self.rank()}", _words(error))
        self._close()
        return echo

    def _cause(self) -> str:
        """What the first rank that failed by itself has left: it does so before it closes its connections."""
        store = self._here()
        with contextlib.suppress(RuntimeError):
            for rank in range(self.size()):
                if store.check([f"failed {rank}"]):
                    return f"rank {rank} failed: {store.get(f'failed {rank}').decode()}"
            return str(self._apart().get("why", ""))
        return ""

    def _close(self) -> None:
        gloo, self._gloo = self._gloo, None
        self._close_all(gloo)
        if gloo is not None and torch.cuda.is_available() and has_nccl(self):
            with contextlib.suppress(RuntimeError):
                self.parent.abort()  # what waits on a device would wait for ever

    def _close_all(self, gloo: Any) -> None:
        """Close all connections. gloo does so when a wait runs out of time, and has no other way."""
        for peer in range(self.size()) if gloo is not None else ():
            if peer != self.rank():
                with contextlib.suppress(RuntimeError):
                    gloo.recv([torch.empty(1)], peer, _NOBODY).wait(_PROMPTLY)


def _words(error: BaseException) -> str:
    return f"{type(error).__name__}: {error}"[:_LONGEST]


_WIRES: dict[dist.ProcessGroup, Wire] = {}


def wire_of(parent: dist.ProcessGroup) -> Wire:
    """The wire of a process group: one, for as long as the process lives, as all ranks must count the same."""
    if parent not in _WIRES:
        _WIRES[parent] = Wire(parent)
    return _WIRES[parent]


def guarded(wire: Wire, call: Callable[[], Result]) -> Result:
    """What `call` returns; an error of it reaches all ranks, and one that only echoes another rank's names that."""
    try:
        return call()
    except BaseException as error:
        wire.end()
        echo = wire.fail(error)
        if echo is not None:
            raise echo from error
        raise
